/** Runs the migrations when the chain, the wanted revision or the image has changed. Runs inside Pulumi's dynamic provider. */

import { createHash } from "node:crypto";
import type { dynamic } from "@pulumi/pulumi";
import { cancellable } from "../../lib/cancellation.ts";
import { docker, removeContainers } from "../../lib/docker.ts";
import { outsideScopes } from "../../lib/scope.ts";
import { loginAddress } from "../server/server-access.ts";
import { ensureServiceImage, readApplication, SERVICE_IMAGE } from "./application.ts";
import { migrationPath } from "./chain.ts";
import { migrationsLabel } from "./container.ts";
import { migrationEnvironment } from "./environment.ts";
import type { MigrationsInputs } from "./migrations.ts";
import { readRevisions } from "./revision.ts";
import { type MigrationsSpec, nameStep, ownerConnection, runMigrations } from "./run-migrations.ts";

interface Outs extends MigrationsInputs {
  /** The fingerprint of the last run's inputs. */
  fingerprint: string;
  /** The revision after the last run. */
  revision: string | null;
}

type Say = (line: string) => void;

const say: Say = (line) => console.log(line);

/** Returns the image's id: a name such as `gameserver:latest` may refer to another image later. */
async function imageIdOf({ image, dockerHost: host }: MigrationsInputs): Promise<string> {
  // The service's image changes with every build of the application, but only the chain decides what runs.
  if (image.startsWith("sha256:") || image === SERVICE_IMAGE) return image;
  return docker(["image", "inspect", "--format", "{{.Id}}", image], { host, timeoutMs: 20_000 }).then(
    (id) => id.trim(),
    // The image does not exist; the run reports that.
    () => image,
  );
}

/**
 * Returns one value for all inputs that require a new run. Ports, passwords, the project's path and the application's environment
 * do not.
 */
async function rerunFingerprint(inputs: MigrationsInputs): Promise<string> {
  const { chain, wantedRevision: wanted, arguments: more, database } = inputs;
  const reasons = JSON.stringify([chain, wanted, more, database, await imageIdOf(inputs)]);
  return createHash("sha256").update(reasons).digest("hex").slice(0, 16);
}

/** Reports which revisions would run, as far as the files determine it. */
function announce(from: string | null, { revisions, wantedRevision }: MigrationsInputs, remark = ""): void {
  const path = migrationPath(revisions, from, wantedRevision);
  if ("unclear" in path) {
    say(`migrations: the files do not determine which revisions would run: ${path.unclear}`);
    return;
  }
  if (path.steps.length === 0) return;
  const what = path.direction === "down" ? "downgrade" : "revision";
  say(
    [
      `migrations: ${path.steps.length} ${what}${path.steps.length === 1 ? "" : "s"} from ${from ?? "the beginning"}${remark}:`,
      ...path.steps.map((step, i) => `  ${i + 1}. ${nameStep(step)}`),
    ].join("\n"),
  );
}

/** Returns the application's environment and its service's image. Both are read again for each run. */
async function readApplicationParts(
  inputs: MigrationsInputs,
  say: Say,
): Promise<Pick<MigrationsSpec, "image" | "variables" | "sources" | "buildCommand">> {
  const { application: spec, dockerHost } = inputs;
  const connection = ownerConnection(inputs);
  const found = readApplication(spec, connection);
  const { service, sources, problem } = found;
  if (problem !== undefined) say(`migrations: ${problem}`);
  const variables = migrationEnvironment({
    files: found.files,
    service: service?.environment ?? {},
    blocks: found.blocks,
    extra: inputs.environment,
    connection,
    superuserPassword: inputs.password,
    process: process.env,
  });
  const more = inputs.environment.length > 0 ? ["alembicEnvironment"] : [];
  if (inputs.image !== SERVICE_IMAGE) return { image: inputs.image, variables, sources: [...sources, ...more] };
  if (service === undefined) {
    throw new Error(
      `The application's Compose service was removed after the update began${problem ? ` (${problem})` : ""}. Run pulumi up again. ` +
        "The database is untouched.",
    );
  }
  await ensureServiceImage(spec, service, dockerHost, say);
  say(`migrations: in ${service.image}, the image of the service ${service.name}`);
  return { image: service.image, variables, sources: [...sources, ...more], buildCommand: found.buildCommand };
}

/**
 * Returns the input of a run, from the resource's inputs and the current state of the application.
 * @throws {Error} if the application's service, whose image the run needs, no longer exists.
 */
export async function specOf(inputs: MigrationsInputs, say: Say): Promise<MigrationsSpec> {
  return {
    stack: inputs.stack,
    address: loginAddress(inputs),
    owner: inputs.owner,
    ownerPassword: inputs.ownerPassword,
    folder: inputs.folder,
    ...(await readApplicationParts(inputs, say)),
    arguments: inputs.arguments,
    wanted: inputs.wantedRevision,
    allowDowngrade: inputs.allowDowngrade,
    network: inputs.network,
    alias: inputs.alias,
    dockerHost: inputs.dockerHost,
  };
}

async function run(inputs: MigrationsInputs): Promise<Outs> {
  const fingerprint = await rerunFingerprint(inputs);
  const spec = await specOf(inputs, say);
  // Outside the scope: a cancelled run still needs its session and Docker, to restore what it has changed.
  const { revision, ran } = await outsideScopes(() => cancellable((signal) => runMigrations(spec, say, signal)));
  if (ran.length === 0) say(`migrations: ${inputs.database} is at ${revision ?? "no revision"}; nothing to run`);
  return { ...inputs, fingerprint, revision };
}

export const provider: dynamic.ResourceProvider = {
  async check(olds: Partial<MigrationsInputs>, news: MigrationsInputs) {
    if (Object.keys(olds ?? {}).length === 0) {
      announce(null, news, ", except those that the imported data already has");
    }
    return { inputs: news };
  },

  async diff(_id, olds: Outs, news: MigrationsInputs) {
    const isStale = olds.fingerprint !== (await rerunFingerprint(news));
    if (isStale) announce(olds.revision, news);
    const isMoved = (["host", "port", "passwordVersion", "authority", "folder", "image", "network"] as const).some(
      (key) => olds[key] !== news[key],
    );
    return { changes: isStale || isMoved, replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: MigrationsInputs) {
    return { id: `migrations of ${inputs.database}`, outs: await run(inputs) };
  },

  async update(_id, olds: Outs, inputs: MigrationsInputs) {
    const fingerprint = await rerunFingerprint(inputs);
    // Only the connection to the server has changed; store it in the state without a run.
    if (fingerprint === olds.fingerprint) return { outs: { ...inputs, fingerprint, revision: olds.revision } };
    return { outs: await run(inputs) };
  },

  /** If the database is at another revision than the last run reached, the next update migrates it again. */
  async read(id, props) {
    if (props === undefined) throw new Error("migrations cannot be imported into the state; run pulumi up");
    const outs = props as Outs;
    const owner = { user: outs.owner, password: outs.ownerPassword };
    const [revision = null] = await readRevisions({ ...loginAddress(outs), ...owner });
    return { id, props: revision === outs.revision ? outs : { ...outs, revision, fingerprint: "changed by hand" } };
  },

  /** The database stays unchanged. */
  async delete(_id, props: Outs) {
    await removeContainers(migrationsLabel(props.stack), { host: props.dockerHost }).catch(() => {});
  },
};
