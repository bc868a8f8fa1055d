/** Examines what a refresh would find and copy. It only reads source and target. */
import { withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import {
  type ComparedDatabase,
  type ComparedDatabaseAccess,
  openComparedDatabase,
} from "../import/compare/compared-database.ts";
import { compareDatabases, type Difference } from "../import/compare/verify.ts";
import type { Finding } from "../import/preflight/findings.ts";
import { isBlocked, PreflightError } from "../import/preflight/findings.ts";
import { type Examination, examine } from "../import/preflight/preflight.ts";
import { readBaseline } from "../import/rows/baseline.ts";
import { besideServer } from "../import/session/direct.ts";
import { readMarker } from "../import/staging/swap.ts";
import { migrationPath, type Revision, readChain } from "../migrations/chain.ts";
import { placeOf, type RefreshOrder } from "./refresh.ts";

/** Sessions on each server. */
const JOBS = 2;

/** The result of the check. It contains no secret. */
export interface RefreshCheck {
  source: string;
  database: string;
  /** The import of the present data; null if no import filled the database. */
  imported: { source: string; finishedAt: string } | null;
  /** Changes on the source since that import; null if the present data is not from this source. */
  changes: Difference[] | null;
  /** Changes in this database since that import, which the refresh would drop; null in the same case. */
  ours: Difference[] | null;
  /** Differences for which the baseline does not tell which database changed. */
  unknown: Difference[];
  /** What would be copied (size, bytes over the network, time), and warnings. */
  findings: Finding[];
}

/** Groups differences by the database that has changed since the import. */
export function sortDifferences(
  differences: readonly Difference[],
): Pick<RefreshCheck, "unknown"> & { changes: Difference[]; ours: Difference[] } {
  const by = (...where: Difference["changed"][]) => differences.filter(({ changed }) => where.includes(changed));
  return {
    changes: by("on the source", "on both sides"),
    ours: by("here", "on both sides"),
    unknown: by(undefined),
  };
}

/** The migrations to run on the new data. */
export interface WantedMigration {
  folder: string;
  revisions: readonly Revision[];
  /** The source's revision; undefined if Alembic has recorded none there. */
  from: string | undefined;
  wanted: string;
  allowDowngrade: boolean;
}

/** Returns why the migrations would refuse the source's data, as far as the revision files show; undefined if they show no reason. */
export function whyNotMigrated({
  folder,
  revisions,
  from,
  wanted,
  allowDowngrade,
}: WantedMigration): string | undefined {
  if (from === undefined || revisions.length === 0) return undefined;
  if (!revisions.some(({ id }) => id === from)) {
    return (
      `The source is at Alembic revision ${from}, which is not among the revisions in ${folder}. Check out a version of the application ` +
      `that has it`
    );
  }
  const path = migrationPath(revisions, from, wanted);
  if ("unclear" in path || path.direction === "up" || path.steps.length === 0 || allowDowngrade) return undefined;
  return (
    `The source is at Alembic revision ${from}, and alembicRevision ${wanted} is older: reaching it needs ` +
    `${path.steps.length} downgrade${path.steps.length === 1 ? "" : "s"}, which may drop data. To permit that: ` +
    `pulumi config set alembicDowngrade true, then pulumi up`
  );
}

/**
 * Runs the preflight of a refresh.
 * @param isThorough also reads samples of the source, for the estimates.
 * @throws {Error} that lists all blockers, each with its remedy.
 */
export async function examineRefresh(order: RefreshOrder, isThorough: boolean): Promise<Examination> {
  const { source, import: inputs, migrations, safetyCopy } = order;
  const { address, container } = placeOf(inputs);
  const seen = await examine({
    source,
    target: { address, container },
    newerImage: inputs.newerImage,
    dockerHost: inputs.dockerHost,
    jobs: inputs.jobs,
    thorough: isThorough,
    replaces: true,
    // The preflight needs no lock, because it only reads. The refresh itself reports another holder of the lock.
    holdsLock: true,
    ...(safetyCopy && { safetyCopy }),
  });
  if (isBlocked(seen.findings) || seen.catalog === undefined) throw new PreflightError(seen.findings, seen.cause);
  const why =
    migrations &&
    whyNotMigrated({
      folder: migrations.folder,
      revisions: readChain(migrations.folder).revisions,
      from: seen.catalog.alembicRevision,
      wanted: migrations.wantedRevision,
      allowDowngrade: migrations.allowDowngrade,
    });
  if (why !== undefined) throw new Error(`${why}. Nothing was changed.`);
  return seen;
}

/**
 * Returns what has changed on the source since the import, and what a refresh would copy. It writes nothing.
 * @throws {Error} that lists all blockers of a refresh, each with its remedy.
 */
export async function checkRefresh(order: RefreshOrder, say: (line: string) => void): Promise<RefreshCheck> {
  const { source, import: inputs } = order;
  const { address } = placeOf(inputs);
  const { findings } = await examineRefresh(order, true);
  const { marker, baseline } = await withConnection(address, async (client) => ({
    marker: await readMarker(client),
    baseline: await readBaseline(client),
  }));
  const known = {
    source: source.label,
    database: address.database,
    imported: marker ? { source: marker.source, finishedAt: marker.finishedAt } : null,
    findings,
  };
  if (marker?.source !== source.label) return { ...known, changes: null, ours: null, unknown: [] };
  say(`comparing ${source.label} with ${address.database}, reading each in one snapshot`);
  const target: ComparedDatabaseAccess = {
    label: address.database,
    address,
    fromContainer: besideServer(inputs.container),
    rootCertificates: inputs.authority,
    dumpLogin: { user: inputs.owner, password: inputs.ownerPassword },
  };
  const options = { jobs: JOBS, stack: inputs.stack, dockerHost: inputs.dockerHost };
  const databases: ComparedDatabase[] = [];
  try {
    databases.push(await openComparedDatabase(source, options));
    databases.push(await openComparedDatabase(target, options));
    const [theirs, ours] = databases as [ComparedDatabase, ComparedDatabase];
    const { differences } = await compareDatabases(theirs, ours, {
      baseline,
      owner: inputs.owner,
      roles: Object.values(ROLE_NAMES),
      image: inputs.image,
      newerImage: inputs.newerImage,
      say,
    });
    return { ...known, ...sortDifferences(differences) };
  } finally {
    await Promise.all(databases.map((database) => database.close()));
  }
}
