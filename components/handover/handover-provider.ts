/** Writes the hand-over's files, and takes them away again. Runs inside Pulumi's dynamic provider. */
import { createHash } from "node:crypto";
import { chmod, mkdir, readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import type { dynamic } from "@pulumi/pulumi";
import { docker } from "../../lib/docker.ts";
import { composeOverride, databaseVolumes, insideName, parseCompose, projectName } from "./compose.ts";
import { putIn, type Taken, takeOut, valuesOf } from "./env-block.ts";
import { isSeenByGit, readReplaceable, writeWhole } from "./files.ts";
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

/** What is to be written, worked out as a whole before anything is. */
interface Plan {
  env: string;
  /** The file over Compose's own; undefined where the application has none. */
  compose: string | undefined;
  formerMode: number;
}

async function plan(inputs: HandOverInputs, project: string, mode: number | undefined): Promise<Plan> {
  const { folder, stack, target } = inputs;
  const found = await stat(folder).catch(() => undefined);
  if (found === undefined)
    throw new Error(`application is "${folder}", where there is no folder. Nothing was written.`);
  if (!found.isDirectory()) throw new Error(`application is "${folder}", which is no folder. Nothing was written.`);
  const path = envPath(inputs);
  if (await isSeenByGit(path)) {
    throw new Error(
      `${path} would get passwords, but git does not ignore it. Add it to .gitignore (and git rm --cached it, should it be ` +
        `tracked), or name another file: pulumi config set handoverFile FILE. Nothing was written.`,
    );
  }
  const env = await readReplaceable(path);
  try {
    const taken = takeOut(env.text ?? "");
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
    return {
      env: putIn(env.text, stack, variables),
      compose,
      formerMode: taken.stack === undefined ? env.mode : (mode ?? env.mode),
    };
  } catch (error) {
    const { message } = error as Error;
    const whose = message.startsWith("has ") ? `${path} ` : "";
    throw new Error(`${whose}${message.replace(/\.$/, "")}. Nothing was written.`);
  }
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
  for (const volume of databaseVolumes(sources, files, inputs.service, project)) {
    const isThere = await docker(["volume", "inspect", volume], { host: inputs.dockerHost }).then(
      () => true,
      () => false,
    );
    if (!isThere) continue;
    console.log(
      `handover: the volume ${volume}, which the application's own database made, is there; its data is not used here. To take it ` +
        `over into an empty stack: npm run adopt -- ${volume}`,
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
    await writeWhole(override, wanted.compose, 0o644);
  }
  await writeWhole(envPath(inputs), wanted.env);
  console.log(
    `handover: ${envPath(inputs)} leads to the ${inputs.target === "neon" ? "remote" : "local"} database; ` +
      `${wanted.compose === undefined ? "no Compose file is there" : "docker compose up --wait restarts the services"}`,
  );
  await tellOldVolumes(inputs, wanted.env);
  return { ...inputs, path: envPath(inputs), formerMode: wanted.formerMode, fingerprint: await reasonsOf(inputs) };
}

/** Takes the block out and puts back what it replaced. */
async function takeAway(outs: Outs): Promise<void> {
  const path = envPath(outs);
  await rm(dirname(overrideFile(process.cwd(), outs.stack)), { recursive: true, force: true });
  const { text } = await readReplaceable(path);
  if (text === undefined) return;
  const taken = takeOut(text);
  if (taken.stack !== outs.stack) return;
  if (taken.isOurs && taken.text === "") await rm(path);
  else {
    await writeWhole(path, taken.text, outs.formerMode);
    await chmod(path, outs.formerMode);
  }
}

export const provider: dynamic.ResourceProvider = {
  async diff(_id, olds: Outs, news: HandOverInputs) {
    return { changes: olds.fingerprint !== (await reasonsOf(news)), replaces: [], deleteBeforeReplace: false };
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
  },
};
