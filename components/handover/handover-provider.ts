/** Writes the hand-over's files, and takes them away again. Runs inside Pulumi's dynamic provider. */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import type { dynamic } from "@pulumi/pulumi";
import { docker, isRemoteEngine } from "../../lib/docker.ts";
import { composeOverride, databaseImage, databaseVolumes, insideName, parseCompose, projectName } from "./compose.ts";
import { putIn, refuseOther, type Taken, takeOut, valuesOf } from "./env-block.ts";
import { type Found, folderProblem, isSeenByGit, readReplaceable, writeWhole } from "./files.ts";
import type { HandOverInputs } from "./handover.ts";
import { neonUrl } from "./neon-url.ts";
import { COMPOSE_NAMES, OVERRIDE_NAMES, overrideFile } from "./places.ts";

interface Outs extends HandOverInputs {
  path: string;
  /** Permissions that the file had before. */
  formerMode: number;
  fingerprint: string;
}

const envPath = ({ folder, file }: HandOverInputs) => (isAbsolute(file) ? file : join(folder, file));
const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );

/** The Compose files that the application starts with by itself. */
async function composeFiles({ folder }: HandOverInputs, env: Taken): Promise<string[]> {
  const named = valuesOf(env.text).COMPOSE_FILE;
  if (named !== undefined) return named.split(":").map((file) => (isAbsolute(file) ? file : join(folder, file)));
  const first = async (names: readonly string[]) => {
    for (const name of names) if (await exists(join(folder, name))) return [join(folder, name)];
    return [];
  };
  const base = await first(COMPOSE_NAMES);
  return base.length === 0 ? [] : [...base, ...(await first(OVERRIDE_NAMES))];
}

/** What is there, and fit to be written to. */
interface Survey {
  found: Found;
  taken: Taken;
  /** The file over Compose's own; undefined where the application has none. */
  compose: string | undefined;
  variables: Record<string, string>;
}

/**
 * Looks at everything before anything is written.
 * @throws {Error} for what is in the way.
 */
async function survey(inputs: HandOverInputs, project: string): Promise<Survey> {
  const { stack, target } = inputs;
  const wrong = folderProblem(inputs.folder);
  if (wrong !== undefined) throw new Error(`${wrong}. Nothing was written.`);
  const path = envPath(inputs);
  if (await isSeenByGit(path)) {
    throw new Error(
      `${path} would get passwords, but git does not ignore it. Add it to .gitignore (and git rm --cached it, should it be ` +
        `tracked), or name another file: pulumi config set handoverFile FILE. Nothing was written.`,
    );
  }
  const found = await readReplaceable(path);
  return explaining(path, async () => {
    const taken = takeOut(found.text ?? "");
    refuseOther(taken, stack);
    const files = await composeFiles(inputs, taken);
    const compose =
      files.length === 0
        ? undefined
        : composeOverride(await Promise.all(files.map((file) => readCompose(file))), files, {
            ...inputs,
            isLocal: target === "local",
          });
    const variables = { ...(target === "neon" ? neonVariables(taken) : {}), ...inputs.variables };
    if (compose !== undefined) variables.COMPOSE_FILE = composeFileList([...files, overrideFile(project, stack)]);
    return { found, taken, compose, variables };
  });
}

/** Adds to an error about the file's block whose block it is, and that all is as it was. */
async function explaining<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { message } = error as Error;
    const whose = message.startsWith("has ") ? `${path} ` : "";
    throw new Error(`${whose}${message.replace(/\.$/, "")}. Nothing was written.`);
  }
}

/** What is to be written, worked out as a whole before anything is. */
interface Plan {
  env: string;
  found: Found;
  /** The file over Compose's own; undefined where the application has none. */
  compose: string | undefined;
  formerMode: number;
}

async function plan(inputs: HandOverInputs, project: string, mode: number | undefined): Promise<Plan> {
  const { found, taken, compose, variables } = await survey(inputs, project);
  return {
    env: await explaining(envPath(inputs), async () => putIn(found.text, inputs.stack, variables)),
    found,
    compose,
    formerMode: taken.stack === undefined ? found.mode : (mode ?? found.mode),
  };
}

const readCompose = async (file: string): Promise<string> => {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new Error(`COMPOSE_FILE names ${file}, which cannot be read: ${(error as Error).message}`);
  }
};

function composeFileList(files: readonly string[]): string {
  const wrong = files.find((file) => file.includes(":"));
  if (wrong !== undefined) throw new Error(`docker compose cannot be told of ${wrong}: its name has a colon`);
  return files.join(":");
}

/** The remote database's URL, for programs on this machine and in containers alike. */
function neonVariables(env: Taken): Record<string, string> {
  const url = neonUrl(process.env.NEON_DATABASE_URL, [valuesOf(env.text).DATABASE_URL, env.ours.DATABASE_URL]);
  return { DATABASE_URL: url, [insideName("DATABASE_URL")]: url };
}

/** Says that data of the application's own database is still there: it is not used, and not adopted by itself. */
async function tellOldVolumes(inputs: HandOverInputs, env: string): Promise<void> {
  const files = await composeFiles(inputs, lenient(env));
  const sources = await Promise.all(files.map(readCompose));
  const named = sources.map((source, i) => parseCompose(source, files[i] ?? "").name).findLast(Boolean);
  const project = valuesOf(env).COMPOSE_PROJECT_NAME ?? named ?? projectName(basename(inputs.folder));
  const image = databaseImage(sources, files, inputs.service);
  for (const volume of databaseVolumes(sources, files, inputs.service, project)) {
    const isThere = await docker(["volume", "inspect", volume], { host: inputs.dockerHost }).then(
      () => true,
      () => false,
    );
    if (!isThere) continue;
    console.log(
      `handover: the volume ${volume}, which the application's own database made, is there; its data is not used here. To take it ` +
        `over into an empty stack: npm run adopt -- ${volume}${image ? ` --image ${image}` : ""}`,
    );
  }
}

const fingerprintOf = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 16);

/** One value for what is wanted and what it is made from. */
async function reasonsOf(inputs: HandOverInputs): Promise<string> {
  const env = await readReplaceable(envPath(inputs)).catch(() => ({ text: undefined }));
  const files = await composeFiles(inputs, lenient(env.text ?? "")).catch(() => []);
  const sources = await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
  // Sorted: the engine hands properties over in an order of its own.
  const { variables, ...rest } = inputs;
  const parts = [Object.entries(rest), Object.entries(variables ?? {})].map((entries) => entries.sort());
  return fingerprintOf(JSON.stringify([parts, sources]));
}

function lenient(text: string): Taken {
  try {
    return takeOut(text);
  } catch {
    return { text, stack: undefined, isOurs: false, former: {}, ours: {} };
  }
}

async function write(inputs: HandOverInputs, olds?: Outs): Promise<Outs> {
  const project = process.cwd();
  const wanted = await plan(inputs, project, olds?.formerMode);
  // Another folder or file than before: there, everything goes back to what it was.
  if (olds !== undefined && envPath(olds) !== envPath(inputs)) await takeAway(olds);
  const override = overrideFile(project, inputs.stack);
  if (wanted.compose !== undefined) {
    await mkdir(dirname(override), { recursive: true });
    await writeWhole(override, wanted.compose, { mode: 0o644 });
  }
  await writeWhole(envPath(inputs), wanted.env, { found: wanted.found });
  // The services join the stack's network, which is on its engine.
  const { dockerHost } = inputs;
  const engine = dockerHost !== undefined && isRemoteEngine(dockerHost) ? `DOCKER_HOST=${dockerHost} ` : "";
  console.log(
    `handover: ${envPath(inputs)} leads to the ${inputs.target === "neon" ? "remote" : "local"} database; ` +
      `${wanted.compose === undefined ? "no Compose file is there" : `${engine}docker compose up --wait restarts the services`}`,
  );
  if (process.env.COMPOSE_FILE)
    console.log("handover: COMPOSE_FILE is set in your environment, where docker compose looks first; unset it");
  await tellOldVolumes(inputs, wanted.env);
  return { ...inputs, path: envPath(inputs), formerMode: wanted.formerMode, fingerprint: await reasonsOf(inputs) };
}

/** Takes the block out and puts back what it replaced. */
async function takeAway(outs: Outs): Promise<void> {
  const path = envPath(outs);
  await rm(dirname(overrideFile(process.cwd(), outs.stack)), { recursive: true, force: true });
  const found = await readReplaceable(path);
  if (found.text === undefined) return;
  const taken = await explaining(path, async () => takeOut(found.text ?? ""));
  if (taken.stack !== outs.stack) return;
  if (taken.isOurs && taken.text === "") await rm(path);
  else await writeWhole(path, taken.text, { mode: outs.formerMode, found });
}

/** Says which services still run: the stack's network cannot be removed as long as they are on it. */
async function tellRunning({ network, dockerHost: host, folder }: Outs): Promise<void> {
  const filters = ["--filter", `network=${network}`, "--filter", "label=com.docker.compose.project"];
  const names = await docker(["ps", ...filters, "--format", "{{.Names}}"], { host }).catch(() => "");
  if (names.trim() === "") return;
  console.log(
    `handover: ${names.trim().split("\n").join(", ")} still run on the stack's network. Stop them (cd '${folder}' && docker compose down): ` +
      "it cannot be removed before",
  );
}

export const provider: dynamic.ResourceProvider = {
  /** In a preview as well: whatever is in the way of the first hand-over is told before anything is made. */
  async check(olds: Partial<HandOverInputs>, news: HandOverInputs) {
    if (Object.keys(olds ?? {}).length > 0) return { inputs: news };
    // Told as a failure of its own, it comes without a stack trace.
    return survey(news, process.cwd()).then(
      () => ({ inputs: news }),
      ({ message }: Error) => ({ inputs: news, failures: [{ property: "", reason: message }] }),
    );
  },

  async diff(_id, olds: Outs, news: HandOverInputs) {
    const changes = olds.fingerprint !== (await reasonsOf(news));
    if (changes) await survey(news, process.cwd());
    return { changes, replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: HandOverInputs) {
    return { id: envPath(inputs), outs: await write(inputs) };
  },

  async update(_id, olds: Outs, inputs: HandOverInputs) {
    return { outs: await write(inputs, olds) };
  },

  /** A block that was taken out or changed by hand comes back with the next update. */
  async read(id, props) {
    if (props === undefined) throw new Error("a hand-over cannot be taken over from elsewhere; run pulumi up");
    const outs = props as Outs;
    const isRight = await plan(outs, process.cwd(), outs.formerMode)
      .then(async ({ env, compose }) => {
        const { text } = await readReplaceable(outs.path);
        const override = await readFile(overrideFile(process.cwd(), outs.stack), "utf8").catch(() => undefined);
        return text === env && override === compose;
      })
      .catch(() => false);
    return { id, props: isRight ? outs : { ...outs, fingerprint: "changed by hand" } };
  },

  async delete(_id, props: Outs) {
    await takeAway(props);
    await tellRunning(props);
  },
};
