/** `./db verify`: compares the database with its source again. */

import { type Command, Option } from "@commander-js/extra-typings";
import type pg from "pg";
import {
  type ComparedDatabase,
  type ComparedDatabaseAccess,
  openComparedDatabase,
} from "../components/import/compare/compared-database.ts";
import { withDefinitionServer } from "../components/import/compare/rewording.ts";
import { compareDatabases, type Difference, type Verification } from "../components/import/compare/verify.ts";
import { unreadable } from "../components/import/preflight/connection.ts";
import { readBaseline } from "../components/import/rows/baseline.ts";
import { sourceFromEnvironment } from "../components/import/source/source-environment.ts";
import { readMarker } from "../components/import/staging/swap.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { untilCancelled } from "../lib/cancellation.ts";
import { docker } from "../lib/docker.ts";
import { defaultIdentityFile } from "../lib/identity-file.ts";
import { newerImage, readImages } from "../lib/images.ts";
import { namesFor } from "../lib/naming.ts";
import { authorityOf, withConnection } from "../lib/postgres.ts";
import { ROLE_NAMES } from "../lib/role-names.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { findCopy, folderOption, identityOption, openIdentity } from "./support/copies.ts";
import { ownerOf } from "./support/owner.ts";
import { addExamples, onStack, value } from "./support/subcommand.ts";

/** The number of sessions for each database. */
const JOBS = 2;
const DIFFERENT = 1;
const NOT_COMPARED = 2;

type Say = (line: string) => void;

/** The result; also the format of --json. */
interface Result extends Verification {
  stack: string;
  /** The import of the target; null if it was not imported. */
  imported: { source: string; finishedAt: string } | null;
}

/** Returns the source that an environment variable names. */
async function sourceFrom(variable: string): Promise<ComparedDatabaseAccess> {
  if (!/^\w+$/.test(variable)) {
    throw new Error(
      "--source takes the name of a variable with the URL, not the URL itself, because other users can read command lines",
    );
  }
  return sourceFromEnvironment("./db verify compares the database with the source that it names", variable);
}

/** Returns the stack's database with the superuser's login, for which row security hides no rows. */
function targetOf({ stack, network, urls, address }: StackOutputs): ComparedDatabaseAccess {
  return {
    label: address,
    address: addressOf(urls.superuser ?? ""),
    fromContainer: { host: namesFor(stack).alias, port: 5432, network },
    rootCertificates: authorityOf(addressOf(urls.superuser ?? "")),
    dumpLogin: addressOf(urls.owner ?? ""),
  };
}

/** Returns another database of the stack's server, with any owner, such as a restored safety copy or a further database. */
function databaseBeside(outputs: StackOutputs, database: string): ComparedDatabaseAccess {
  const { dumpLogin: _, ...target } = targetOf(outputs);
  return { ...target, label: `the database ${database}`, address: { ...target.address, database } };
}

/** The database to compare with: a variable with a URL, a database's name, or a safety copy and its identity. */
interface Other {
  variable: string;
  database?: string;
  copy?: { name: string; folder: string; identity: string };
}

async function verify(stack: string, { variable, database, copy }: Other, say: Say): Promise<Result> {
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

/** Returns the script that prepares a database for a restore. The readonly role may read nothing there. */
const preparation = (database: string): string => preparationScript(database, ["*"]);

/** Restores a safety copy into a temporary database of the stack's server, and compares it. */
async function verifyCopy(
  stack: string,
  { name, folder, identity }: Required<Other>["copy"],
  say: Say,
): Promise<Result> {
  const { withRestored } = await import("../components/import/safety-copy/restore.ts");
  const copy = await findCopy(folder, name);
  const secret = await openIdentity(identity);
  const outputs = await readStack(stack);
  const { address } = targetOf(outputs);
  say(`restoring the safety copy ${copy.name} into a temporary database on the server of ${address.database}`);
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

/** Options of {@link compare}. */
interface CompareOptions {
  /** Returns a better error for a source that cannot be read. */
  explain?: (source: ComparedDatabaseAccess, error: Error) => Error;
  /** A session that already holds the import's lock on the stack's server. */
  lockSession?: pg.Client;
}

async function compare(
  outputs: StackOutputs,
  source: ComparedDatabaseAccess,
  say: Say,
  { explain = (_source, error) => error, lockSession }: CompareOptions = {},
): Promise<Result> {
  const { stack } = outputs;
  const target = targetOf(outputs);
  const image = (await docker(["inspect", "-f", "{{.Image}}", outputs.container])).trim();
  const { marker, baseline } = await withConnection(target.address, async (client) => ({
    marker: await readMarker(client),
    baseline: await readBaseline(client),
  }));
  say(`comparing ${source.label} and ${target.label}, each in one exported snapshot; both are only read`);
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
      withServer: (work) => (lockSession ? work({ ...scratch, lockSession }) : withDefinitionServer(scratch, work)),
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

/** Formats the result for the terminal. */
export function describe({ verdict, differences, remarks, imported, ...found }: Result): string {
  const { source, target, tables, rows, sequences, definitions, seconds } = found;
  const compared = [
    count(tables, "table"),
    count(rows, "row"),
    count(sequences, "sequence"),
    count(definitions, "definition"),
  ].join(", ");
  const headline =
    verdict === "equal"
      ? `Equal: ${target} is equal to ${source} (${compared}, in ${seconds.toFixed(1)} s)`
      : `Different: ${count(differences.length, "object")} ${differences.length === 1 ? "differs" : "differ"} between ${target} and ${source} (compared: ${compared}, in ${seconds.toFixed(1)} s)`;
  return [
    headline,
    ...(imported ? [`The database was imported from ${imported.source} at ${imported.finishedAt}`] : []),
    ...differences.flatMap(describeDifference),
    ...remarks.map((remark) => `  remark: ${remark}`),
  ].join("\n");
}

/** The options that name the database or copy to compare with; by default the source. */
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

/** Configures the command `./db verify`. */
export default function verifyCommand(command: Command): void {
  command
    .description(
      "Compares the stack's database with its source again: definitions, sequences, and the rows of every table, by fingerprints that " +
        "each server computes itself, so that almost no data crosses the network. Both databases are only read, each in one exported " +
        "snapshot. If definitions differ in their text, it restores them into a scratch database on the stack's server, to compare how " +
        "PostgreSQL prints them. Reports all differences, down to keys and columns, and which of the two has changed since the import. " +
        "Exits with 0 if both are equal, 1 if they differ, 2 if they could not be compared.",
    )
    .addOption(
      new Option(
        "--source <variable>",
        "the environment variable with the URL to compare with (default: NEON_DATABASE_URL)",
      )
        .argParser(value)
        .conflicts(["database", "safetyCopy"]),
    )
    .addOption(
      new Option(
        "--database <name>",
        "compare with another database of the stack's server, such as a restored safety copy",
      )
        .argParser(value)
        .conflicts("safetyCopy"),
    )
    .option("--safety-copy <name>", "compare with a safety copy, which is restored into a temporary database", value)
    .addOption(folderOption())
    .addOption(identityOption())
    .action(
      onStack(
        async ({ stack, print }, options) => {
          const say = (line: string) => console.error(`verify: ${line}`);
          const result = await untilCancelled(() => verify(stack, otherOf(options), say));
          print(describe(result), result);
          return result.verdict === "equal" ? 0 : DIFFERENT;
        },
        { errorCode: NOT_COMPARED },
      ),
    );
  addExamples(command, {
    verify: "compare with the source in NEON_DATABASE_URL",
    "verify --source OTHER_URL": "compare with the source in another variable",
    "verify --safety-copy NAME": "compare with a safety copy, if the source no longer exists",
  });
}
