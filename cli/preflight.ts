/** `./db preflight`: what an import would find in its way, at both ends, without importing anything. */
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
import { type Examined, examine } from "../components/import/preflight.ts";
import { SAFETY_FOLDER } from "../components/import/safety-copy-files.ts";
import { sourceFromEnvironment } from "../components/import/source-environment.ts";
import { tryWherePossible } from "../components/import/trial.ts";
import type { Source, Target } from "../components/import/types.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { newerImage, readImages } from "../lib/images.ts";
import { namesFor } from "../lib/naming.ts";
import { addressOf, readConfig, readStack, StackError, type StackOutputs } from "../lib/stack.ts";
import { ownerOf } from "./support/owner.ts";
import { addExamples, onStack } from "./support/subcommand.ts";

/** Milliseconds for a suspended endpoint to wake. */
const PATIENCE_MS = 20_000;
/** The exit code of a preflight that could not look at anything. */
const COULD_NOT_LOOK = 2;

/** Colours where the output is a terminal's, and NO_COLOR is not set. */
const COLOURS: Record<Level, Parameters<typeof styleText>[0]> = {
  blocker: ["bold", "red"],
  warning: ["bold", "yellow"],
  fact: "bold",
};
const paint = (level: Level, heading: string) => styleText(COLOURS[level], heading, { stream: process.stdout });

/** What is told; also the form of --json. */
interface Told {
  stack: string;
  /** Host and database; null where the URL cannot be read. */
  source: string | null;
  /** Whether an import can start. */
  ready: boolean;
  verdict: string;
  findings: Finding[];
}

/** The stack, where it is up; a finding where it is not. */
async function readTarget(stack: string): Promise<{ target?: Target; found: Finding[] }> {
  try {
    return { target: targetOf(await readStack(stack)), found: [] };
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    const why = `only the source was looked at: ${error.message.split("\n")[0]}`;
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

/** The settings that an import would have. */
async function readWanted(stack: string): Promise<Pick<Examined, "jobs" | "dockerHost" | "safetyCopy">> {
  const settings = await readConfig(stack);
  const said = (key: string, otherwise: string) => settings.get(key) ?? otherwise;
  const dockerHost = said("dockerHost", "auto");
  // The source that is looked at is one that is worth a copy.
  const isCopied = ["auto", "true"].includes(said("safetyCopy", "auto"));
  return {
    jobs: Number(said("importJobs", "2")),
    dockerHost: dockerHost === "auto" ? undefined : dockerHost,
    ...(isCopied && { safetyCopy: { folder: said("safetyCopyFolder", SAFETY_FOLDER) } }),
  };
}

/** The source, or a finding that says what is wrong with its URL. */
async function readSource(): Promise<{ source?: Source; found: Finding[] }> {
  try {
    return { source: await sourceFromEnvironment("./db preflight looks at what it names"), found: [] };
  } catch (error) {
    const remedy = "Copy the connection string anew from the Neon console";
    return { found: [finding("url-invalid", "the source's URL", (error as Error).message, remedy)] };
  }
}

async function look(stack: string, tries: boolean): Promise<Told> {
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

/** Adds what `./db preflight` takes and does to its command. */
export default function preflight(command: Command): void {
  command
    .description(
      "Looks at the source that NEON_DATABASE_URL names and at the stack's database, and reports everything that would stop an import, " +
        "with what to do about it. The source and the stack's database are only read. On the stack's server, the preflight also creates " +
        "the source's schema in a database beside the stack's, and drops that again. Where the stack is not up, only the source is " +
        "checked. Exits with 0 when an import can start, with 1 when something is in the way, with 2 when it could not look.",
    )
    .option("--no-try-schema", "do not create the schema: read only")
    .addOption(new Option("--try-schema", "what happens by default; scripts may say it").hideHelp())
    .action(
      onStack(
        async ({ stack, print }, { trySchema }) => {
          if (!process.env.NEON_DATABASE_URL) {
            throw new Error(
              "NEON_DATABASE_URL is not set, so there is no source to look at. Copy the connection string from the Neon console: " +
                "export NEON_DATABASE_URL='postgresql://user:password@host/database'",
            );
          }
          const told = await look(stack, trySchema !== false);
          const title = `Preflight of ${told.source ?? "the source"} for the stack ${stack}`;
          print(`${title}\n\n${layOut(told.findings, paint)}`, told);
          return told.ready ? 0 : 1;
        },
        { errorCode: COULD_NOT_LOOK },
      ),
    );
  addExamples(command, {
    preflight: "the stack that Pulumi has selected",
    "preflight --json": "the findings, for machines",
  });
}
