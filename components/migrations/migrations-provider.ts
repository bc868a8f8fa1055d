/** Runs the migrations when the chain, the wanted revision or the image is another. Runs inside Pulumi's dynamic provider. */

import { createHash } from "node:crypto";
import type { dynamic } from "@pulumi/pulumi";
import { cancellable } from "../../lib/cancellation.ts";
import { docker, removeContainers } from "../../lib/docker.ts";
import { outsideScopes } from "../../lib/scope.ts";
import { loginAddress } from "../server/server-access.ts";
import { ensureServiceImage, readApplication, SERVICE_IMAGE } from "./application.ts";
import { wayBetween } from "./chain.ts";
import { migrationsLabel } from "./container.ts";
import { migrationEnvironment } from "./environment.ts";
import type { MigrationsInputs } from "./migrations.ts";
import { readRevisions } from "./revision.ts";
import { type MigrationsSpec, nameStep, ownerConnection, runMigrations } from "./run-migrations.ts";

interface Outs extends MigrationsInputs {
  /** What the last run was made from. */
  fingerprint: string;
  /** The revision that it reached. */
  revision: string | null;
}

type Say = (line: string) => void;

const say: Say = (line) => console.log(line);

/** The image's identity: a name like `gameserver:latest` may mean another image tomorrow. */
async function imageIdOf({ image, dockerHost: host }: MigrationsInputs): Promise<string> {
  // The service's image is built again with every change of the code. What is to run follows from the chain.
  if (image.startsWith("sha256:") || image === SERVICE_IMAGE) return image;
  return docker(["image", "inspect", "--format", "{{.Id}}", image], { host, timeoutMs: 20_000 }).then(
    (id) => id.trim(),
    // Not there: the run will say so.
    () => image,
  );
}

/**
 * One value for all that is a reason to run again. Ports, passwords, the project's place on disk and the application's environment
 * are none.
 */
async function reasonsOf(inputs: MigrationsInputs): Promise<string> {
  const { chain, wantedRevision: wanted, arguments: more, database } = inputs;
  const reasons = JSON.stringify([chain, wanted, more, database, await imageIdOf(inputs)]);
  return createHash("sha256").update(reasons).digest("hex").slice(0, 16);
}

/** Says which revisions would run, as far as the files tell. */
function announce(from: string | null, { revisions, wantedRevision }: MigrationsInputs, remark = ""): void {
  const way = wayBetween(revisions, from, wantedRevision);
  if ("unclear" in way) {
    say(`migrations: the files do not tell which revisions would run: ${way.unclear}`);
    return;
  }
  if (way.steps.length === 0) return;
  const what = way.direction === "down" ? "downgrade" : "revision";
  say(
    [
      `migrations: ${way.steps.length} ${what}${way.steps.length === 1 ? "" : "s"} from ${from ?? "the beginning"}${remark}:`,
      ...way.steps.map((step, i) => `  ${i + 1}. ${nameStep(step)}`),
    ].join("\n"),
  );
}

/** What the application brings along: its environment, and its service's image. Both are read anew for each run. */
async function readSurroundings(
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
      `The application's service is gone since the update began${problem ? ` (${problem})` : ""}. Run pulumi up again. ` +
        "The database is untouched.",
    );
  }
  await ensureServiceImage(spec, service, dockerHost, say);
  say(`migrations: in ${service.image}, the image of the service ${service.name}`);
  return { image: service.image, variables, sources: [...sources, ...more], buildCommand: found.buildCommand };
}

/**
 * What a run needs, by the resource's inputs and what the application brings along at the moment.
 * @throws {Error} where the application's service is gone whose image is to be used.
 */
export async function specOf(inputs: MigrationsInputs, say: Say): Promise<MigrationsSpec> {
  return {
    stack: inputs.stack,
    address: loginAddress(inputs),
    owner: inputs.owner,
    ownerPassword: inputs.ownerPassword,
    folder: inputs.folder,
    ...(await readSurroundings(inputs, say)),
    arguments: inputs.arguments,
    wanted: inputs.wantedRevision,
    allowDowngrade: inputs.allowDowngrade,
    network: inputs.network,
    alias: inputs.alias,
    dockerHost: inputs.dockerHost,
  };
}

async function run(inputs: MigrationsInputs): Promise<Outs> {
  const fingerprint = await reasonsOf(inputs);
  const spec = await specOf(inputs, say);
  // Called off, it needs its own session and Docker once more, to put back what it has changed.
  const { revision, ran } = await outsideScopes(() => cancellable((signal) => runMigrations(spec, say, signal)));
  if (ran.length === 0) say(`migrations: ${inputs.database} is at ${revision ?? "no revision"}; nothing to run`);
  return { ...inputs, fingerprint, revision };
}

export const provider: dynamic.ResourceProvider = {
  async check(olds: Partial<MigrationsInputs>, news: MigrationsInputs) {
    if (Object.keys(olds ?? {}).length === 0) {
      announce(null, news, ", less those that the imported data has behind it");
    }
    return { inputs: news };
  },

  async diff(_id, olds: Outs, news: MigrationsInputs) {
    const isStale = olds.fingerprint !== (await reasonsOf(news));
    if (isStale) announce(olds.revision, news);
    const isMoved = (["host", "port", "passwordVersion", "folder", "image", "network"] as const).some(
      (key) => olds[key] !== news[key],
    );
    return { changes: isStale || isMoved, replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: MigrationsInputs) {
    return { id: `migrations of ${inputs.database}`, outs: await run(inputs) };
  },

  async update(_id, olds: Outs, inputs: MigrationsInputs) {
    const fingerprint = await reasonsOf(inputs);
    // Only the way to the server has changed: that is noted for the next look at it.
    if (fingerprint === olds.fingerprint) return { outs: { ...inputs, fingerprint, revision: olds.revision } };
    return { outs: await run(inputs) };
  },

  /** A database that stands elsewhere than the last run left it is brought back by the next update. */
  async read(id, props) {
    if (props === undefined) throw new Error("migrations cannot be taken over from elsewhere; run pulumi up");
    const outs = props as Outs;
    const owner = { user: outs.owner, password: outs.ownerPassword };
    const [revision = null] = await readRevisions({ ...loginAddress(outs), ...owner });
    return { id, props: revision === outs.revision ? outs : { ...outs, revision, fingerprint: "changed by hand" } };
  },

  /** The database stays as it is. */
  async delete(_id, props: Outs) {
    await removeContainers(migrationsLabel(props.stack), { host: props.dockerHost }).catch(() => {});
  },
};
