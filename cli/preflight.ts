/** `./db preflight`: checks source and target for an import, without importing. */
import { styleText } from "node:util";
import { type Command, Option } from "@commander-js/extra-typings";
import {
  type Finding,
  finding,
  isBlocked,
  type Level,
  layOut,
  verdictOf,
} from "../components/import/preflight/findings.ts";
import { type Examined, examine } from "../components/import/preflight/preflight.ts";
import { tryWherePossible } from "../components/import/preflight/trial.ts";
import { SAFETY_FOLDER } from "../components/import/safety-copy/files.ts";
import { sourceFromEnvironment } from "../components/import/source/source-environment.ts";
import type { Source, Target } from "../components/import/types.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { newerImage, readImages } from "../lib/images.ts";
import { namesFor } from "../lib/naming.ts";
import { addressOf, readConfig, readStack, StackError, type StackOutputs } from "../lib/stack.ts";
import { ownerOf } from "./support/owner.ts";
import { addExamples, onStack } from "./support/subcommand.ts";

/** Milliseconds to wait for a suspended endpoint to wake. */
const PATIENCE_MS = 20_000;
/** The exit code of a preflight that could not check anything. */
const COULD_NOT_LOOK = 2;

/** Colours, if the output is a terminal, and NO_COLOR is not set. */
const COLOURS: Record<Level, Parameters<typeof styleText>[0]> = {
  blocker: ["bold", "red"],
  warning: ["bold", "yellow"],
  fact: "bold",
};
const paint = (level: Level, heading: string) => styleText(COLOURS[level], heading, { stream: process.stdout });

/** The result; also the format of --json. */
interface Result {
  stack: string;
  /** Host and database; null if the URL is invalid. */
  source: string | null;
  /** Whether an import can start. */
  ready: boolean;
  verdict: string;
  findings: Finding[];
}

/** Returns the stack's server as the target, or a finding if the stack is not up. */
async function readTarget(stack: string): Promise<{ target?: Target; found: Finding[] }> {
  try {
    return { target: targetOf(await readStack(stack)), found: [] };
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    const why = `only the source was checked: ${error.message.split("\n")[0]}`;
    return { found: [finding("target-not-seen", `stack ${stack}`, why)] };
  }
}

const targetOf = ({ container, urls, network, stack }: StackOutputs): Target => ({
  address: addressOf(urls.superuser ?? ""),
  ...ownerOf(urls),
  preparation: (database) => preparationScript(database, []),
  fromContainer: { host: namesFor(stack).alias, port: 5432, network },
  container,
});

/** Returns the settings of an import into the stack. */
async function readWanted(stack: string): Promise<Pick<Examined, "jobs" | "dockerHost" | "safetyCopy">> {
  const settings = await readConfig(stack);
  const settingOr = (key: string, otherwise: string) => settings.get(key) ?? otherwise;
  const dockerHost = settingOr("dockerHost", "auto");
  // With "auto", sources from NEON_DATABASE_URL get a safety copy, and the preflight checks such a source.
  const isCopied = ["auto", "true"].includes(settingOr("safetyCopy", "auto"));
  return {
    jobs: Number(settingOr("importJobs", "2")),
    dockerHost: dockerHost === "auto" ? undefined : dockerHost,
    ...(isCopied && { safetyCopy: { folder: settingOr("safetyCopyFolder", SAFETY_FOLDER) } }),
  };
}

/** Returns the source, or a finding about its invalid URL. */
async function readSource(): Promise<{ source?: Source; found: Finding[] }> {
  try {
    return { source: await sourceFromEnvironment("./db preflight checks the source that it names"), found: [] };
  } catch (error) {
    const remedy = "Copy the connection string from the Neon console again";
    return { found: [finding("url-invalid", "the source's URL", (error as Error).message, remedy)] };
  }
}

async function runPreflight(stack: string, tries: boolean): Promise<Result> {
  const { source, found: ofSource } = await readSource();
  const { target, found: ofTarget } = await readTarget(stack);
  const ends: Examined = {
    source,
    target,
    ...(await readWanted(stack)),
    newerImage: newerImage(readImages()),
    patienceMs: PATIENCE_MS,
    thorough: true,
  };
  const seen = await examine(ends);
  const findings = [...ofSource, ...seen.findings, ...ofTarget];
  if (tries && source && target) {
    const image = `${namesFor(stack).image}:15`;
    const spec = { source, target, stack, image, newerImage: ends.newerImage, dockerHost: ends.dockerHost };
    findings.push(...(await tryWherePossible(spec, seen)));
  }
  return {
    stack,
    source: source?.label ?? null,
    ready: !isBlocked(findings),
    verdict: verdictOf(findings),
    findings,
  };
}

/** Configures the command `./db preflight`. */
export default function preflight(command: Command): void {
  command
    .description(
      "Checks the source that NEON_DATABASE_URL names and the stack's database, and reports everything that would stop an import, with " +
        "remedies. It only reads the source and the stack's database. On the stack's server, it also creates the source's schema in a " +
        "separate database, and drops that again. If the stack is not up, it checks only the source. Exits with 0 if an import can " +
        "start, with 1 if there are blockers, with 2 if it could not check.",
    )
    .option("--no-try-schema", "do not create the schema; only read")
    .addOption(new Option("--try-schema", "the default, for scripts that name it").hideHelp())
    .action(
      onStack(
        async ({ stack, print }, { trySchema }) => {
          if (!process.env.NEON_DATABASE_URL) {
            throw new Error(
              "NEON_DATABASE_URL is not set, so there is no source to check. Copy the connection string from the Neon console: " +
                "export NEON_DATABASE_URL='postgresql://user:password@host/database'",
            );
          }
          const result = await runPreflight(stack, trySchema !== false);
          const title = `Preflight of ${result.source ?? "the source"} for the stack ${stack}`;
          print(`${title}\n\n${layOut(result.findings, paint)}`, result);
          return result.ready ? 0 : 1;
        },
        { errorCode: COULD_NOT_LOOK },
      ),
    );
  addExamples(command, {
    preflight: "check for the stack that is selected in Pulumi",
    "preflight --json": "print the findings as JSON",
  });
}
