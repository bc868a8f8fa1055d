/** Writes the hand-over's files, and removes them again. Runs inside Pulumi's dynamic provider. */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { dynamic } from "@pulumi/pulumi";
import { docker } from "../../lib/docker.ts";
import { shellWord } from "../../lib/shell-word.ts";
import { hasAuthorityFile, removeAuthorityFile, writeAuthorityFile } from "./authority.ts";
import { overrideFile } from "./compose-paths.ts";
import { dataVolumes } from "./compose-project.ts";
import { envPath, readReplaceable, writeWhole } from "./files.ts";
import type { HandOverInputs, HandOverOutputs } from "./handover.ts";
import { type ComposePlan, type Plan, planHandOver, readWithoutBlock } from "./plan.ts";
import { summaryOf } from "./summary.ts";

interface Outs extends HandOverInputs, HandOverOutputs {
  /** The permissions of the file before the hand-over. */
  formerMode: number;
}

/** Reports volumes with data of the application's own database. The stack neither uses nor adopts them automatically. */
async function reportOldVolumes({ service, dockerHost }: HandOverInputs, { project }: ComposePlan): Promise<void> {
  const { image } = project.services[service] ?? {};
  for (const volume of dataVolumes(project, service)) {
    const isThere = await docker(["volume", "inspect", volume], { host: dockerHost }).then(
      () => true,
      () => false,
    );
    if (!isThere) continue;
    console.log(
      `handover: the volume ${volume} of the application's own database still exists; the stack does not use its data. To move the ` +
        `data into an empty stack: ./db adopt ${volume}${image ? ` --image ${image}` : ""}`,
    );
  }
}

const fingerprintOf = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 16);

/** Returns one value for everything that the hand-over writes, without the user's own lines. */
function fingerprint(inputs: HandOverInputs, { variables, compose }: Plan): string {
  // Sorted, because the order in which the Pulumi engine passes properties is not fixed.
  const sorted = (value: unknown): unknown =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.entries(value)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([key, inner]) => [key, sorted(inner)])
      : value;
  const { folder, file, stack, target, authority } = inputs;
  const written = [folder, file, stack, target, sorted(variables), compose?.override];
  return fingerprintOf(JSON.stringify(authority ? [...written, authority] : written));
}

async function write(inputs: HandOverInputs, olds?: Outs): Promise<Outs> {
  const root = process.cwd();
  const plan = await planHandOver(inputs, root);
  const path = envPath(inputs);
  const formerMode = plan.taken.stack === undefined ? plan.found.mode : (olds?.formerMode ?? plan.found.mode);
  // The folder or file setting has changed: restore the former file.
  if (olds !== undefined && envPath(olds) !== path) await restoreFiles(olds);
  const override = overrideFile(root, inputs.stack);
  if (plan.compose !== undefined) {
    await mkdir(dirname(override), { recursive: true, mode: 0o700 });
    await writeWhole(override, plan.compose.override);
  }
  if (olds !== undefined && envPath(olds) === path) await removeAuthorityFile(olds);
  await writeAuthorityFile(inputs);
  await writeWhole(path, plan.env, { found: plan.found });
  const { folder, stack, target, service, port } = inputs;
  console.log(
    summaryOf(plan, {
      folder,
      stack,
      envPath: path,
      overridePath: override,
      isLocal: target === "local",
      service,
      port,
      poolerPort: inputs.pooled?.port,
      environment: process.env,
    }),
  );
  if (plan.compose !== undefined) await reportOldVolumes(inputs, plan.compose);
  return { ...inputs, path, formerMode, ...outputsOf(inputs, plan) };
}

function outputsOf(inputs: HandOverInputs, plan: Plan): Omit<HandOverOutputs, "path"> {
  const redirected = Object.entries(plan.compose?.redirects.services ?? {});
  return {
    budget: plan.pools,
    services: redirected.filter(([, { isUser }]) => isUser).map(([name]) => name),
    next: plan.next ?? "",
    fingerprint: fingerprint(inputs, plan),
  };
}

/** Removes the block, restores the variables that it replaced, and removes the Compose file of the hand-over. */
async function restoreFiles(outs: Outs): Promise<void> {
  const path = envPath(outs);
  const found = await readReplaceable(path);
  const taken = found.text === undefined ? undefined : await readWithoutBlock(path, found.text);
  if (taken !== undefined && taken.stack === outs.stack) {
    if (taken.isOurs && taken.text === "") await rm(path);
    else await writeWhole(path, taken.text, { mode: outs.formerMode, found });
  }
  await removeAuthorityFile(outs);
  await rm(dirname(overrideFile(process.cwd(), outs.stack)), { recursive: true, force: true });
}

/** Reports services that still run: Docker cannot remove the stack's network while they are connected to it. */
async function reportRunning({ network, dockerHost: host, folder }: Outs): Promise<void> {
  const filters = ["--filter", `network=${network}`, "--filter", "label=com.docker.compose.project"];
  const names = await docker(["ps", ...filters, "--format", "{{.Names}}"], { host }).catch(() => "");
  if (names.trim() === "") return;
  console.log(
    `handover: ${names.trim().split("\n").join(", ")} still run on the stack's network, so Docker cannot remove it. Stop them: ` +
      `cd ${shellWord(folder)} && docker compose --profile '*' down`,
  );
}

const UNKNOWN = { database: "unknown", user: "unknown", password: "unknown" };

/** Returns the inputs with placeholders for values that are known only during the update. */
const filledIn = (inputs: HandOverInputs): HandOverInputs => ({
  ...inputs,
  logins: inputs.logins ?? { main: UNKNOWN, test: UNKNOWN, further: {} },
  superuser: inputs.superuser ?? UNKNOWN,
  network: inputs.network ?? "network",
  container: inputs.container ?? "container",
  image: inputs.image ?? "image",
});

export const provider: dynamic.ResourceProvider = {
  async diff(_id, olds: Outs, news: HandOverInputs) {
    const wanted = filledIn(news);
    const changes = olds.fingerprint !== fingerprint(wanted, await planHandOver(wanted, process.cwd()));
    return { changes, replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: HandOverInputs) {
    return { id: envPath(inputs), outs: await write(inputs) };
  },

  async update(_id, olds: Outs, inputs: HandOverInputs) {
    return { outs: await write(inputs, olds) };
  },

  /** A block that was removed or changed by hand is written again by the next update. */
  async read(id, props) {
    if (props === undefined) throw new Error("a hand-over cannot be imported into the state; run pulumi up");
    const outs = props as Outs;
    const isRight = await planHandOver(outs, process.cwd())
      .then(async ({ env, compose }) => {
        const { text } = await readReplaceable(outs.path);
        const override = await readFile(overrideFile(process.cwd(), outs.stack), "utf8").catch(() => undefined);
        return text === env && override === compose?.override && (await hasAuthorityFile(outs));
      })
      .catch(() => false);
    return { id, props: isRight ? outs : { ...outs, fingerprint: "changed by hand" } };
  },

  async delete(_id, props: Outs) {
    await restoreFiles(props);
    await reportRunning(props);
  },
};
