/** `./db verify`: the proof again, at any time. */

import { type Command, Option } from "@commander-js/extra-typings";
import type pg from "pg";
import { readBaseline } from "../components/import/baseline.ts";
import {
  type ComparedDatabase,
  type ComparedDatabaseAccess,
  openComparedDatabase,
} from "../components/import/compared-database.ts";
import { unreadable } from "../components/import/preflight/connection.ts";
import { withScratchServer } from "../components/import/rewording.ts";
import { sourceFromEnvironment } from "../components/import/source-environment.ts";
import { readMarker } from "../components/import/swap.ts";
import { compareDatabases, type Difference, type Verification } from "../components/import/verify.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { untilCancelled } from "../lib/cancellation.ts";
import { docker } from "../lib/docker.ts";
import { defaultIdentityFile } from "../lib/identity-file.ts";
import { newerImage, readImages } from "../lib/images.ts";
import { namesFor } from "../lib/naming.ts";
import { withConnection } from "../lib/postgres.ts";
import { ROLE_NAMES } from "../lib/role-names.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { findCopy, folderOption, identityOption, openIdentity } from "./support/copies.ts";
import { ownerOf } from "./support/owner.ts";
import { addExamples, onStack, value } from "./support/subcommand.ts";

/** Sessions on each side. */
const JOBS = 2;
const DIFFERENT = 1;
const NOT_COMPARED = 2;

type Say = (line: string) => void;

/** What is told; also the form of --json. */
interface Told extends Verification {
  stack: string;
  /** What the target was imported from, if it was. */
  imported: { source: string; finishedAt: string } | null;
}

/** The source that a variable of the environment names. */
async function sourceFrom(variable: string): Promise<ComparedDatabaseAccess> {
  if (!/^\w+$/.test(variable)) {
    throw new Error(
      "--source takes the name of a variable that holds the URL, not the URL itself, which others could read",
    );
  }
  return sourceFromEnvironment("The database is compared with its source", variable);
}

/** The stack's database, as its superuser reads it: row security must hide nothing. */
function targetOf({ stack, network, urls, address }: StackOutputs): ComparedDatabaseAccess {
  return {
    label: address,
    address: addressOf(urls.superuser ?? ""),
    fromContainer: { host: namesFor(stack).alias, port: 5432, network },
    rootCertificates: undefined,
    dumpLogin: addressOf(urls.owner ?? ""),
  };
}

/** Another database of the stack's server, whoever owns it: a safety copy that was restored beside it, a further database. */
function databaseBeside(outputs: StackOutputs, database: string): ComparedDatabaseAccess {
  const { dumpLogin: _, ...target } = targetOf(outputs);
  return { ...target, label: `the database ${database}`, address: { ...target.address, database } };
}

/** Where the other side is: a variable with a URL, a database's name, or a safety copy and what opens it. */
interface Other {
  variable: string;
  database?: string;
  copy?: { name: string; folder: string; identity: string };
}

async function verify(stack: string, { variable, database, copy }: Other, say: Say): Promise<Told> {
  if (copy) return verifyCopy(stack, copy, say);
  if (database !== undefined) {
    const outputs = await readStack(stack);
    return compare(outputs, databaseBeside(outputs, database), say);
  }
  const source = await sourceFrom(variable);
  const explain = ({ label }: ComparedDatabaseAccess, error: Error) => {
    const { what, remedy } = unreadable(label, error);
    return new Error(`${label} ${what}. ${remedy}.`, { cause: error });
  };
  return compare(await readStack(stack), source, say, { explain });
}

/** What a database needs before anything is restored into it. The readonly role may read nothing there. */
const preparation = (database: string): string => preparationScript(database, ["*"]);

/** Restores a safety copy beside the stack's database for the time of the comparison. */
async function verifyCopy(stack: string, { name, folder, identity }: Required<Other>["copy"], say: Say): Promise<Told> {
  const { withRestored } = await import("../components/import/safety-copy-restore.ts");
  const copy = await findCopy(folder, name);
  const secret = await openIdentity(identity);
  const outputs = await readStack(stack);
  const { address } = targetOf(outputs);
  say(`the safety copy ${copy.name} is restored beside ${address.database}, and dropped again afterwards`);
  const order = {
    copy: copy.path,
    secret,
    server: address,
    database: `${address.database}_safety_copy`,
    ...ownerOf(outputs.urls),
    preparation,
    say,
  };
  return withRestored(order, ({ database }, { lockSession }) =>
    compare(outputs, { ...databaseBeside(outputs, database), label: `the safety copy ${copy.name}` }, say, {
      lockSession,
    }),
  );
}

/** What a comparison needs in some cases. */
interface CompareOptions {
  /** Says what is wrong with a source that cannot be read. */
  explain?: (source: ComparedDatabaseAccess, error: Error) => Error;
  /** A session that holds the import's lock on the stack's server already. */
  lockSession?: pg.Client;
}

async function compare(
  outputs: StackOutputs,
  source: ComparedDatabaseAccess,
  say: Say,
  { explain = (_source, error) => error, lockSession }: CompareOptions = {},
): Promise<Told> {
  const { stack } = outputs;
  const target = targetOf(outputs);
  const image = (await docker(["inspect", "-f", "{{.Image}}", outputs.container])).trim();
  const { marker, baseline } = await withConnection(target.address, async (client) => ({
    marker: await readMarker(client),
    baseline: await readBaseline(client),
  }));
  say(`${source.label} and ${target.label}, each at one moment; both are only read`);
  const options = { jobs: JOBS, stack, dockerHost: undefined };
  const scratch = { stack, dockerHost: undefined, target: { ...target, ...ownerOf(outputs.urls), preparation } };
  const databases: ComparedDatabase[] = [];
  try {
    databases.push(
      await openComparedDatabase(source, options).catch((error) => {
        throw explain(source, error);
      }),
    );
    databases.push(await openComparedDatabase(target, options));
    const [theirs, ours] = databases as [ComparedDatabase, ComparedDatabase];
    const found = await compareDatabases(theirs, ours, {
      baseline,
      owner: ROLE_NAMES.owner,
      roles: Object.values(ROLE_NAMES),
      image,
      newerImage: newerImage(readImages()),
      withScratch: (work) => (lockSession ? work({ ...scratch, lockSession }) : withScratchServer(scratch, work)),
      say,
    });
    return {
      stack,
      ...found,
      imported: marker ? { source: marker.source, finishedAt: marker.finishedAt } : null,
    };
  } finally {
    await Promise.all(databases.map((database) => database.close()));
  }
}

const count = (value: number, what: string) => `${value.toLocaleString("en")} ${what}${value === 1 ? "" : "s"}`;

function describeDifference({ object, details, changed }: Difference): string[] {
  const who = changed === undefined ? "" : `, changed ${changed} since the import`;
  return [`  ${object}${who}`, ...details.map((detail) => `    ${detail.replaceAll("\n", "\\n")}`)];
}

/** The result in words. */
export function describe({ verdict, differences, remarks, imported, ...found }: Told): string {
  const { source, target, tables, rows, sequences, definitions, seconds } = found;
  const compared = [
    count(tables, "table"),
    count(rows, "row"),
    count(sequences, "sequence"),
    count(definitions, "definition"),
  ].join(", ");
  const headline =
    verdict === "equal"
      ? `Equal: ${target} holds what ${source} does (${compared}, in ${seconds.toFixed(1)} s)`
      : `Different: ${count(differences.length, "thing")} in ${target} not as in ${source} (compared: ${compared}, in ${seconds.toFixed(1)} s)`;
  return [
    headline,
    ...(imported ? [`The import was of ${imported.source}, at ${imported.finishedAt}`] : []),
    ...differences.flatMap(describeDifference),
    ...remarks.map((remark) => `  remark: ${remark}`),
  ].join("\n");
}

/** The database or copy that the options name; the source without any of them. */
interface OtherOptions {
  source?: string;
  database?: string;
  safetyCopy?: string;
  folder: string;
  identity?: string;
}

function otherOf({ source, database, safetyCopy, folder, identity }: OtherOptions): Other {
  const variable = source ?? "NEON_DATABASE_URL";
  if (safetyCopy === undefined) return { variable, database };
  return { variable, copy: { name: safetyCopy, folder, identity: identity ?? defaultIdentityFile() } };
}

/** Adds what `./db verify` takes and does to its command. */
export default function verifyCommand(command: Command): void {
  command
    .description(
      "Compares the stack's database with its source again: definitions, sequences, and the rows of every table, by fingerprints that " +
        "each server computes itself, so next to nothing crosses the wire. Both sides are only read, each at one moment. Where " +
        "definitions differ in their text, they are restored in a scratch database beside the stack's, to compare what PostgreSQL makes " +
        "of them. Names what differs, down to keys and columns, and on which side it has changed since the import. Exits with 0 when " +
        "both are equal, 1 when they differ, 2 when they could not be compared.",
    )
    .addOption(
      new Option(
        "--source <variable>",
        "the environment's variable with the URL to compare with (default: NEON_DATABASE_URL)",
      )
        .argParser(value)
        .conflicts(["database", "safetyCopy"]),
    )
    .addOption(
      new Option(
        "--database <name>",
        "compare with another database of the stack's server, such as a safety copy that was restored",
      )
        .argParser(value)
        .conflicts("safetyCopy"),
    )
    .option(
      "--safety-copy <name>",
      "compare with a safety copy: it is restored beside the stack's database, and dropped again",
      value,
    )
    .addOption(folderOption())
    .addOption(identityOption())
    .action(
      onStack(
        async ({ stack, print }, options) => {
          const say = (line: string) => console.error(`verify: ${line}`);
          const told = await untilCancelled(() => verify(stack, otherOf(options), say));
          print(describe(told), told);
          return told.verdict === "equal" ? 0 : DIFFERENT;
        },
        { errorCode: NOT_COMPARED },
      ),
    );
  addExamples(command, {
    verify: "with the source in NEON_DATABASE_URL",
    "verify --source OTHER_URL": "with the one whose URL is in another variable",
    "verify --safety-copy NAME": "with what the source was, when the source is gone",
  });
}
