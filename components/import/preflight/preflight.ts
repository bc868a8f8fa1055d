/** Checks everything that must hold before the import writes anything, in one pass over source and target. Both are only read. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { ImportSummary } from "../../../lib/import-summary.ts";
import { connect } from "../../../lib/postgres.ts";
import { readCatalog } from "../schema/catalog.ts";
import { TARGET_MAJOR } from "../schema/schema.ts";
import { openSource } from "../session/session.ts";
import type { Catalog, ImportSpec, Source, Target } from "../types.ts";
import { checkCollations } from "./collations.ts";
import { protection, unreadable } from "./connection.ts";
import { estimate, takeSample } from "./estimates.ts";
import { checkFeatures } from "./features.ts";
import { type Finding, finding, isBlocked, PreflightError, remarksOf } from "./findings.ts";
import { checkContents, checkPrivileges, checkServer, checkSuperuserObjects, checkVersion } from "./source-checks.ts";
import { readContents, readServerInfo, type ServerInfo } from "./source-info.ts";
import { checkCopyRoom, checkExtensions, checkObjects, checkRoom, checkTarget } from "./target-checks.ts";
import { dumpVersion, freeBytes, freeForFiles, readFunctions, readTargetInfo, type TargetInfo } from "./target-info.ts";

/** Result of the preflight: the summary of an earlier import, or what the import needs to start. */
export type Preflight =
  | { done: ImportSummary }
  | {
      done?: undefined;
      catalog: Catalog;
      targetVersion: string;
      targetCollation: string;
      remarks: string[];
      findings: Finding[];
    };

/** What a preflight checks. */
export interface Examined {
  /** If left out, only the target is checked. */
  source?: Source;
  /** If left out, only the source is checked. */
  target?: Pick<Target, "address" | "container">;
  newerImage: string;
  dockerHost: string | undefined;
  jobs: number;
  /** Folder of the safety copy, on this machine. */
  safetyCopy?: { folder: string };
  /** Milliseconds to wait for a suspended source. */
  patienceMs?: number;
  /** Whether the caller holds the import's lock on the target's server. */
  holdsLock?: boolean;
  /** Whether to check the source even if the target was imported before, and to read a sample for the estimates. */
  thorough?: boolean;
  /** Whether the import replaces the target's data, so that existing data is not a blocker. */
  replaces?: boolean;
}

/** Result of the checks. */
export interface Examination {
  findings: Finding[];
  /** Undefined if it could not be read; a blocker then gives the reason. */
  catalog?: Catalog;
  targetInfo?: TargetInfo;
  /** The error that ended the checks of the source early. */
  cause?: unknown;
}

/** Milliseconds that a lock on the source may last before it is a finding: the locks of a migration step are shorter. */
const LOCK_PATIENCE_MS = 3000;
/** The preflight's queries are short. One that runs longer waits for another session. */
const LIMITS = "SET lock_timeout = '3s'; SET statement_timeout = '60s'";
const TARGET_PATIENCE_MS = 10_000;

/** One run of the checks: its connections and its findings so far. */
interface Pass extends Examined {
  keep: (opening: Promise<pg.Client>) => Promise<pg.Client>;
  found: Finding[];
}

/** A target that was read. */
interface OpenTarget {
  client: pg.Client;
  info: TargetInfo;
}

/** Checks source and target and returns all findings. An error at one of them does not end the checks of the other. */
export async function examine(what: Examined): Promise<Examination> {
  const opened: pg.Client[] = [];
  const found: Finding[] = [];
  const keep = async (opening: Promise<pg.Client>) => {
    const client = await opening;
    opened.push(client);
    return client;
  };
  const pass: Pass = { ...what, found, keep };
  try {
    const target = await examineTarget(pass);
    if (target?.info.marker && !what.thorough && !what.replaces) return { findings: found, targetInfo: target.info };
    // The disk space is read at the same time as the source.
    const free = freeBytes(what.target?.container, what.dockerHost);
    const { about, ...seen } = await examineSource(pass, target);
    if (about && target) found.push(...checkRoom(await free, about.bytes, target.info.walBytes));
    if (seen.catalog && what.safetyCopy) {
      const room = await freeForFiles(what.safetyCopy.folder);
      found.push(...checkCopyRoom(room, seen.catalog.tables, { free: await free, bytes: about?.bytes ?? 0 }));
    }
    return { findings: found, targetInfo: target?.info, ...seen };
  } finally {
    await Promise.all(opened.map((client) => client.end().catch(() => {})));
  }
}

async function examineTarget({
  target,
  jobs,
  holdsLock,
  replaces,
  keep,
  found,
}: Pass): Promise<OpenTarget | undefined> {
  if (target === undefined) return undefined;
  const { address } = target;
  try {
    const client = await keep(
      connect(address, { patienceMs: TARGET_PATIENCE_MS, applicationName: "sectorwars-preflight" }),
    );
    await client.query("SET default_transaction_read_only = on; SET search_path = ''");
    const info = await readTargetInfo(client, address.database);
    const empty = replaces ? { marker: undefined, relations: [] } : {};
    found.push(...checkTarget({ ...info, ...empty, lockHeld: info.lockHeld && !holdsLock }, address.database, jobs));
    return { client, info };
  } catch (error) {
    found.push(targetUnreachable(error));
    return undefined;
  }
}

function targetUnreachable(error: unknown): Finding {
  const what = `cannot be read: ${(error as Error).message}`;
  return finding("target-unreachable", "the target's server", what, "./db doctor looks for the cause");
}

async function examineSource(
  pass: Pass,
  target: OpenTarget | undefined,
): Promise<{ about?: ServerInfo; catalog?: Catalog; cause?: unknown }> {
  const { source, jobs, found, keep } = pass;
  if (source === undefined) return {};
  let about: ServerInfo | undefined;
  try {
    const client = await keep(openSource(source.address, pass.patienceMs));
    found.push(...protection(source, client));
    const major = await readMajor(client, found);
    if (major === undefined) return {};

    const server = await awaitShortLocks(client, major);
    about = server.about;
    found.push(...checkServer(about, server.locks, jobs));
    const dump = major > TARGET_MAJOR ? checkDump(pass, about) : [];
    const functions = target && major > TARGET_MAJOR ? await functionsOf(target, found) : undefined;
    const contents = await readContents(client, major, functions && namesOf(functions));
    found.push(...checkPrivileges(contents, about.role), ...checkSuperuserObjects(contents));
    if (target) found.push(...checkExtensions(contents, target.info), ...checkObjects(contents, target.info));
    found.push(...checkFeatures(contents, functions && { functions }));
    found.push(...checkCollations(contents, about.collation, target?.info), ...(await dump));

    const catalog = await readCatalogIfPossible(client, server.locks.length > 0, isBlocked(found));
    found.push(...checkContents(contents, catalog));
    const sample = pass.thorough && catalog && !isBlocked(found) ? await takeSample(client, catalog.tables) : undefined;
    found.push(...estimate(catalog, about.bytes, jobs, sample));
    return { about, catalog };
  } catch (cause) {
    found.push(unreadable(source.label, cause));
    return { about, cause };
  }
}

/** Returns the source's major version, if the checks support it. */
async function readMajor(client: pg.Client, found: Finding[]): Promise<number | undefined> {
  await client.query(LIMITS);
  const { rows } = await client.query(
    "SELECT current_setting('server_version') AS name, current_setting('server_version_num')::int AS number",
  );
  const major = Math.floor(rows[0].number / 10000);
  const wrong = checkVersion(major, rows[0].name.split(" ")[0]);
  if (wrong === undefined) return major;
  found.push(wrong);
  return undefined;
}

/** Reads the catalog, unless a locked table would make it wait. An error from an unreadable table is ignored: a finding reports it. */
function readCatalogIfPossible(client: pg.Client, locked: boolean, blocked: boolean): Promise<Catalog | undefined> {
  if (locked) return Promise.resolve(undefined);
  return blocked ? readCatalog(client).catch(() => undefined) : readCatalog(client);
}

/** Reads the target's own functions. A lost connection is a finding about the target, not an error of the source. */
async function functionsOf({ client }: OpenTarget, found: Finding[]): Promise<Set<string> | undefined> {
  try {
    return await readFunctions(client);
  } catch (error) {
    found.push(targetUnreachable(error));
    return undefined;
  }
}

/** Reads the server's info, and waits for short locks to end before they become findings. */
async function awaitShortLocks(client: pg.Client, major: number) {
  const deadline = Date.now() + LOCK_PATIENCE_MS;
  for (;;) {
    const server = await readServerInfo(client, major);
    if (server.locks.length === 0 || Date.now() > deadline) return server;
    await sleep(LOCK_PATIENCE_MS / 10);
  }
}

/** Returns the functions' names without their arguments. */
const namesOf = (functions: ReadonlySet<string>) => [
  ...new Set([...functions].map((signature) => signature.replace(/\(.*/s, ""))),
];

/** Checks for a pg_dump of the source's version or newer. */
async function checkDump({ newerImage, dockerHost }: Pass, { major, version }: ServerInfo): Promise<Finding[]> {
  const dumps = await dumpVersion(newerImage, dockerHost);
  if (dumps >= major) return [];
  const have = dumps > 0 ? `${newerImage} has pg_dump ${dumps}` : `the image ${newerImage} is not on this machine`;
  const what = `only a pg_dump of that version or newer can read it, and ${have}`;
  return [finding("dump-missing", `PostgreSQL ${version}`, what, "Build it with script/bootstrap newer")];
}

/**
 * Checks source and target before an import. If the target was imported before and is not to be replaced, it returns without a
 * connection to the source.
 * @throws {PreflightError} that lists every blocker with its remedy.
 */
export async function preflight(spec: ImportSpec): Promise<Preflight> {
  const replaces = spec.replacement !== undefined;
  const { findings, catalog, targetInfo, cause } = await examine({ ...spec, holdsLock: true, replaces });
  if (targetInfo?.marker && !replaces) return { done: targetInfo.marker };
  if (isBlocked(findings) || catalog === undefined || targetInfo === undefined)
    throw new PreflightError(findings, cause);
  return {
    catalog,
    targetVersion: targetInfo.version,
    targetCollation: targetInfo.collation,
    remarks: remarksOf(findings),
    findings,
  };
}
