/** What must hold before anything is written, found out in one pass over both ends. Both are only read. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { connect } from "../../lib/postgres.ts";
import { readCatalog } from "./catalog.ts";
import { checkCollations } from "./preflight/collations.ts";
import { protection, unreadable } from "./preflight/connection.ts";
import { estimate, takeSample } from "./preflight/estimates.ts";
import { checkFeatures } from "./preflight/features.ts";
import { type Finding, finding, isBlocked, PreflightError, remarksOf } from "./preflight/findings.ts";
import {
  checkAbout,
  checkContents,
  checkPrivileges,
  checkSuperuserObjects,
  checkVersion,
} from "./preflight/source-checks.ts";
import { type About, lookAround, lookInto } from "./preflight/source-look.ts";
import { checkCopyRoom, checkExtensions, checkObjects, checkRoom, checkTarget } from "./preflight/target-checks.ts";
import {
  dumpVersion,
  freeBytes,
  freeForFiles,
  lookAtTarget,
  readFunctions,
  type TargetLook,
} from "./preflight/target-look.ts";
import { TARGET_MAJOR } from "./schema.ts";
import { openSource } from "./session.ts";
import type { Catalog, ImportSpec, Source, Target } from "./types.ts";

/** The import's answer to a target that has been filled before, or to a source that may be copied. */
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

/** What a preflight looks at. */
export interface Examined {
  /** Left out where nobody knows it: then the target is looked at alone. */
  source?: Source;
  /** Left out where there is no target yet: then the source is looked at alone. */
  target?: Pick<Target, "address" | "container">;
  newerImage: string;
  dockerHost: string | undefined;
  jobs: number;
  /** Where an encrypted copy of the source would go, on this machine. */
  safetyCopy?: { folder: string };
  /** Milliseconds to wait for a source that sleeps. */
  patienceMs?: number;
  /** Whether the import's lock on the target's server is the caller's own. */
  holdsLock?: boolean;
  /** Whether to go on though the target was filled before, and to read a little for the estimates. */
  thorough?: boolean;
  /** Whether what the target holds is to be replaced: then it is not in the way. */
  replaces?: boolean;
}

/** All that was found. */
export interface Examination {
  findings: Finding[];
  /** What could not be read is left out; then there is a blocker that says why. */
  catalog?: Catalog;
  targetLook?: TargetLook;
  /** What ended the look at the source early. */
  cause?: unknown;
}

/** Milliseconds that a lock on the source may last before it counts: a migration's step passes. */
const LOCK_PATIENCE_MS = 3000;
/** Nothing that a preflight asks takes long; what waits longer waits for somebody else. */
const LIMITS = "SET lock_timeout = '3s'; SET statement_timeout = '60s'";
const TARGET_PATIENCE_MS = 10_000;

/** One look at both ends: its connections, and what it has found so far. */
interface Pass extends Examined {
  keep: (opening: Promise<pg.Client>) => Promise<pg.Client>;
  found: Finding[];
}

/** A target that answers. */
interface OpenTarget {
  client: pg.Client;
  look: TargetLook;
}

/** Looks at both ends and tells everything at once: what ends the look at one end does not end it at the other. */
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
    if (target?.look.marker && !what.thorough && !what.replaces) return { findings: found, targetLook: target.look };
    // The container is asked while the source is.
    const free = freeBytes(what.target?.container, what.dockerHost);
    const { about, ...seen } = await examineSource(pass, target);
    if (about && target) found.push(...checkRoom(await free, about.bytes, target.look.walBytes));
    if (seen.catalog && what.safetyCopy) {
      const room = await freeForFiles(what.safetyCopy.folder);
      found.push(...checkCopyRoom(room, seen.catalog.tables, { free: await free, bytes: about?.bytes ?? 0 }));
    }
    return { findings: found, targetLook: target?.look, ...seen };
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
    const look = await lookAtTarget(client, address.database);
    const empty = replaces ? { marker: undefined, relations: [] } : {};
    found.push(...checkTarget({ ...look, ...empty, lockHeld: look.lockHeld && !holdsLock }, address.database, jobs));
    return { client, look };
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
): Promise<{ about?: About; catalog?: Catalog; cause?: unknown }> {
  const { source, jobs, found, keep } = pass;
  if (source === undefined) return {};
  let about: About | undefined;
  try {
    const client = await keep(openSource(source.address, pass.patienceMs));
    found.push(...protection(source, client));
    const major = await readMajor(client, found);
    if (major === undefined) return {};

    const around = await lookAroundPatiently(client, major);
    about = around.about;
    found.push(...checkAbout(about, around.locks, jobs));
    const dump = major > TARGET_MAJOR ? checkDump(pass, about) : [];
    const functions = target && major > TARGET_MAJOR ? await functionsOf(target, found) : undefined;
    const look = await lookInto(client, major, functions && namesOf(functions));
    found.push(...checkPrivileges(look, about.role), ...checkSuperuserObjects(look));
    if (target) found.push(...checkExtensions(look, target.look), ...checkObjects(look, target.look));
    found.push(...checkFeatures(look, functions && { functions }));
    found.push(...checkCollations(look, about.collation, target?.look), ...(await dump));

    const catalog = await readCatalogIfPossible(client, around.locks.length > 0, isBlocked(found));
    found.push(...checkContents(look, catalog));
    const sample = pass.thorough && catalog && !isBlocked(found) ? await takeSample(client, catalog.tables) : undefined;
    found.push(...estimate(catalog, about.bytes, jobs, sample));
    return { about, catalog };
  } catch (cause) {
    found.push(unreadable(source.label, cause));
    return { about, cause };
  }
}

/** The source's major version, where it is one that can be asked on. */
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

/** A table that somebody holds would keep the catalog waiting, and one that may not be read may end it: both are told already. */
function readCatalogIfPossible(client: pg.Client, locked: boolean, blocked: boolean): Promise<Catalog | undefined> {
  if (locked) return Promise.resolve(undefined);
  return blocked ? readCatalog(client).catch(() => undefined) : readCatalog(client);
}

/** What the target has of its own. Should it go away now, that is no error of the source's. */
async function functionsOf({ client }: OpenTarget, found: Finding[]): Promise<Set<string> | undefined> {
  try {
    return await readFunctions(client);
  } catch (error) {
    found.push(targetUnreachable(error));
    return undefined;
  }
}

/** A lock that passes within moments is not worth a word. */
async function lookAroundPatiently(client: pg.Client, major: number) {
  const deadline = Date.now() + LOCK_PATIENCE_MS;
  for (;;) {
    const around = await lookAround(client, major);
    if (around.locks.length === 0 || Date.now() > deadline) return around;
    await sleep(LOCK_PATIENCE_MS / 10);
  }
}

/** Functions' names without their arguments. */
const namesOf = (functions: ReadonlySet<string>) => [
  ...new Set([...functions].map((signature) => signature.replace(/\(.*/s, ""))),
];

/** A source newer than the target needs a pg_dump of its own version or a newer one. */
async function checkDump({ newerImage, dockerHost }: Pass, { major, version }: About): Promise<Finding[]> {
  const dumps = await dumpVersion(newerImage, dockerHost);
  if (dumps >= major) return [];
  const have = dumps > 0 ? `${newerImage} has that of ${dumps}` : `the image ${newerImage} is not here`;
  const what = `only a pg_dump of that version or newer reads it, and ${have}`;
  return [finding("dump-missing", `PostgreSQL ${version}`, what, "script/bootstrap newer obtains one")];
}

/**
 * Looks at both ends before an import. Unless it is to be replaced, a target that has been filled before is answered for without a connection to the source.
 * @throws {PreflightError} that lists every blocker with its remedy.
 */
export async function preflight(spec: ImportSpec): Promise<Preflight> {
  const replaces = spec.replacement !== undefined;
  const { findings, catalog, targetLook, cause } = await examine({ ...spec, holdsLock: true, replaces });
  if (targetLook?.marker && !replaces) return { done: targetLook.marker };
  if (isBlocked(findings) || catalog === undefined || targetLook === undefined)
    throw new PreflightError(findings, cause);
  return {
    catalog,
    targetVersion: targetLook.version,
    targetCollation: targetLook.collation,
    remarks: remarksOf(findings),
    findings,
  };
}
