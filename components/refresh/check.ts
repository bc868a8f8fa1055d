/** What a refresh would find and copy. Both ends are only read. */
import { withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { besideServer } from "../import/direct.ts";
import type { Finding } from "../import/preflight/findings.ts";
import { isBlocked, PreflightError } from "../import/preflight/findings.ts";
import { type Examination, examine } from "../import/preflight.ts";
import { readRecord } from "../import/record.ts";
import { openSide, type Side, type SideAccess } from "../import/side.ts";
import { readMarker } from "../import/swap.ts";
import { compareSides, type Difference } from "../import/verify.ts";
import { migrationPath, type Revision, readChain } from "../migrations/chain.ts";
import { placeOf, type RefreshOrder } from "./refresh.ts";

/** Sessions on each end. */
const JOBS = 2;

/** What is known before a refresh. It holds no secret. */
export interface RefreshCheck {
  source: string;
  database: string;
  /** What the data of today was imported from; null where no import has filled the database. */
  imported: { source: string; finishedAt: string } | null;
  /** What has changed on the source since that import; null where the data of today is not of this source. */
  changes: Difference[] | null;
  /** What has changed here since, which the new data will not have; null as before. */
  ours: Difference[] | null;
  /** What differs, where nobody can tell which end has changed. */
  unknown: Difference[];
  /** What would be copied: size, bytes over the wire, time; and warnings. */
  findings: Finding[];
}

/** Differences by the end that has changed since the import. */
export function sortDifferences(
  differences: readonly Difference[],
): Pick<RefreshCheck, "unknown"> & { changes: Difference[]; ours: Difference[] } {
  const by = (...ends: Difference["changed"][]) => differences.filter(({ changed }) => ends.includes(changed));
  return {
    changes: by("on the source", "on both sides"),
    ours: by("here", "on both sides"),
    unknown: by(undefined),
  };
}

/** A way that migrations are to go on the new data. */
export interface WantedWay {
  folder: string;
  revisions: readonly Revision[];
  /** The source's revision; undefined where Alembic has none there. */
  from: string | undefined;
  wanted: string;
  allowDowngrade: boolean;
}

/** Says why the migrations would refuse the source's data, as far as the chain's files tell; undefined where they tell nothing. */
export function whyNotMigrated({ folder, revisions, from, wanted, allowDowngrade }: WantedWay): string | undefined {
  if (from === undefined || revisions.length === 0) return undefined;
  if (!revisions.some(({ id }) => id === from)) {
    return (
      `The source is at Alembic's revision ${from}, which the chain in ${folder} does not know. Check out the version of the ` +
      `application that has it`
    );
  }
  const way = migrationPath(revisions, from, wanted);
  if ("unclear" in way || way.direction === "up" || way.steps.length === 0 || allowDowngrade) return undefined;
  return (
    `The source is at Alembic's revision ${from}, and alembicRevision ${wanted} is older: going there runs ` +
    `${way.steps.length} downgrade${way.steps.length === 1 ? "" : "s"}, which may drop data. If that is wanted: ` +
    `pulumi config set alembicDowngrade true, then pulumi up`
  );
}

/**
 * Looks at both ends before a refresh.
 * @param isThorough reads a little of the source for the estimates.
 * @throws {Error} that lists everything in the way, each with its remedy.
 */
export async function lookBefore(order: RefreshOrder, isThorough: boolean): Promise<Examination> {
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
    // Whoever holds it is named when the refresh begins; a look disturbs nobody.
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
 * Finds out what has changed on the source since the import, and what a refresh would copy. Nothing is written.
 * @throws {Error} that lists everything in the way of a refresh, each with its remedy.
 */
export async function checkRefresh(order: RefreshOrder, say: (line: string) => void): Promise<RefreshCheck> {
  const { source, import: inputs } = order;
  const { address } = placeOf(inputs);
  const { findings } = await lookBefore(order, true);
  const { marker, record } = await withConnection(address, async (client) => ({
    marker: await readMarker(client),
    record: await readRecord(client),
  }));
  const told = {
    source: source.label,
    database: address.database,
    imported: marker ? { source: marker.source, finishedAt: marker.finishedAt } : null,
    findings,
  };
  if (marker?.source !== source.label) return { ...told, changes: null, ours: null, unknown: [] };
  say(`${source.label} and ${address.database}, each at one moment; both are only read`);
  const target: SideAccess = {
    label: address.database,
    address,
    fromContainer: besideServer(inputs.container),
    rootCertificates: undefined,
    dumpLogin: { user: inputs.owner, password: inputs.ownerPassword },
  };
  const options = { jobs: JOBS, stack: inputs.stack, dockerHost: inputs.dockerHost };
  const sides: Side[] = [];
  try {
    sides.push(await openSide(source, options));
    sides.push(await openSide(target, options));
    const [theirs, ours] = sides as [Side, Side];
    const { differences } = await compareSides(theirs, ours, {
      record,
      owner: inputs.owner,
      roles: Object.values(ROLE_NAMES),
      image: inputs.image,
      newerImage: inputs.newerImage,
      say,
    });
    return { ...told, ...sortDifferences(differences) };
  } finally {
    await Promise.all(sides.map((side) => side.close()));
  }
}
