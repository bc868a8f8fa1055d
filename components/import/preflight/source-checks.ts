/** Checks of the source. Pure. */
import { TARGET_MAJOR } from "../schema/schema.ts";
import { SUPERUSER_KINDS } from "../schema/superuser-kinds.ts";
import type { Catalog } from "../types.ts";
import { type Code, type Finding, finding, findings } from "./findings.ts";
import type { Lock, Relation, ServerInfo, SourceContents } from "./source-info.ts";

/** The queries read pg_attribute.attgenerated, which came with 12. */
export const OLDEST_SOURCE = 12;
/** The catalog of a newer version may hold features that these checks do not know. */
export const NEWEST_SOURCE = 18;

/** Returns the finding for a version that cannot be imported, or undefined. */
export function checkVersion(major: number, version: string): Finding | undefined {
  if (major >= OLDEST_SOURCE && major <= NEWEST_SOURCE) return undefined;
  const remedy =
    major < OLDEST_SOURCE
      ? "Upgrade the source first (pg_upgrade, or a new Neon project)"
      : "Look for a newer version of this project";
  return finding(
    "version-unsupported",
    `PostgreSQL ${version}`,
    `versions ${OLDEST_SOURCE} to ${NEWEST_SOURCE} can be imported`,
    remedy,
  );
}

/** Checks the server, the role, and the other sessions on the server. */
export function checkServer(about: ServerInfo, locks: readonly Lock[], jobs: number): Finding[] {
  const found: Finding[] = [];
  const { version, major, role } = about;
  if (major > TARGET_MAJOR) {
    found.push(
      finding(
        "version-newer",
        `PostgreSQL ${version}`,
        `is newer than the target's ${TARGET_MAJOR}; a newer pg_dump reads it`,
      ),
    );
  }
  if (about.encoding !== "UTF8") {
    found.push(
      finding(
        "encoding-unsupported",
        `encoding ${about.encoding}`,
        "only UTF8 can be imported",
        "Convert the source's database to UTF8 first",
      ),
    );
  }
  // One session holds the exported snapshot, one for each job copies; pg_dump's session ends before they begin.
  const needed = Math.max(jobs, 1) + 1;
  if (about.connectionsLeft < needed) {
    found.push(
      finding(
        "connections-exhausted",
        `role ${role}`,
        `may open ${Math.max(about.connectionsLeft, 0)} more connections, and the import needs ${needed}`,
        "Close some on the source, raise its limit, or lower importJobs",
      ),
    );
  }
  for (const [table, holders] of Map.groupBy(locks, (lock) => lock.table)) {
    const who = [...new Set(holders.map(describeHolder))].join(", ");
    found.push(
      finding(
        "table-locked",
        table,
        `is locked against readers (ACCESS EXCLUSIVE) by ${who}`,
        "Wait until it ends, or end it on the source: SELECT pg_terminate_backend(PID), or ROLLBACK PREPARED",
      ),
    );
  }
  found.push(
    ...about.prepared.map(({ gid, age }) =>
      finding(
        "prepared-transactions",
        `transaction ${gid}`,
        `was prepared ${age} ago and is still open, so the copy will not have its changes`,
        "Run COMMIT PREPARED or ROLLBACK PREPARED on the source",
      ),
    ),
  );
  if (about.isReplica) {
    found.push(
      finding(
        "source-is-replica",
        "the source",
        "is a replica, which may cancel a long read in favour of replication",
        "Import from the primary, or set max_standby_streaming_delay = -1 on the replica",
      ),
    );
  }
  return found;
}

const describeHolder = ({ pid, age, application }: Lock): string =>
  pid === null
    ? "a prepared transaction"
    : `process ${pid}${application ? ` (${application})` : ""}${age ? `, since ${age}` : ""}`;

/** Checks what the role may not read, which would fail the import later while it copies rows. */
export function checkPrivileges(
  { relations, schemas, unreadableLargeObjects }: SourceContents,
  role: string,
): Finding[] {
  // Views and foreign tables need no SELECT: their definitions come from the catalog, which every role can read.
  const needed = relations.filter(({ kind }) => "rpmS".includes(kind));
  const unreadable = needed.filter(({ readable }) => !readable);
  const hidden = relations.filter((relation) => relation.hidden && relation.readable);
  return [
    ...findings(
      "privilege-missing",
      schemas.map((name) => `schema ${name}`),
      `${role} lacks USAGE`,
      `On the source: GRANT USAGE ON SCHEMA ... TO ${role}`,
    ),
    ...findings(
      "privilege-missing",
      unreadable.filter(({ kind }) => kind !== "S").map(({ name }) => name),
      `${role} lacks SELECT`,
      `On the source: GRANT SELECT ON ... TO ${role}, or import as their owner`,
    ),
    ...findings(
      "privilege-missing",
      unreadable.filter(({ kind }) => kind === "S").map(({ name }) => `sequence ${name}`),
      `${role} lacks SELECT`,
      `On the source: GRANT SELECT ON SEQUENCE ... TO ${role}, or import as their owner`,
    ),
    ...findings(
      "privilege-missing",
      unreadableLargeObjects.map((oid) => `large object ${oid}`),
      `${role} lacks SELECT`,
      `On the source: GRANT SELECT ON LARGE OBJECT ... TO ${role}, or import as their owner`,
    ),
    ...findings(
      "rows-hidden",
      hidden.filter(({ forced }) => !forced).map(({ name }) => name),
      `row-level security may hide rows from ${role}`,
      `On the source: ALTER ROLE ${role} BYPASSRLS, or import as the tables' owner`,
    ),
    ...findings(
      "rows-hidden",
      hidden.filter(({ forced }) => forced).map(({ name }) => name),
      `row-level security is forced and may hide rows from the owner, too`,
      `On the source: ALTER ROLE ${role} BYPASSRLS, or ALTER TABLE ... NO FORCE ROW LEVEL SECURITY`,
    ),
  ];
}

/** Returns findings for objects that the import does not create because only a superuser can. */
export const checkSuperuserObjects = ({ superuserObjects }: SourceContents): Finding[] =>
  superuserObjects.flatMap(({ kind, object }) => {
    const known = SUPERUSER_KINDS[kind];
    return known
      ? finding("superuser-needed", object, `only a superuser can create it: it ${known.what}`, known.remedy)
      : [];
  });

/** Checks objects that are not copied as they are, or that need an explanation. */
export function checkContents(contents: SourceContents, catalog: Catalog | undefined): Finding[] {
  return [
    ...contents.largeObjects.map(({ count }) =>
      finding(
        "large-objects",
        `${count} large object${count === 1 ? "" : "s"}`,
        "copied with their OIDs and comments; the target's owner owns them, and the application may read and change them",
      ),
    ),
    ...findings(
      "invalid-index",
      contents.invalidIndexes,
      "is invalid on the source (a failed CREATE INDEX CONCURRENTLY) and is not copied",
      "On the source: REINDEX INDEX, or DROP INDEX",
    ),
    ...findings(
      "extension-rows",
      contents.extensionTables.map(({ extension, table }) => `${table} (${extension})`),
      "belongs to an extension, which creates it again; rows that were added to it are not copied",
      "If there are such rows, insert them on the target after the import",
    ),
    ...checkAlembic(catalog),
    ...checkRelations(contents.relations),
    // checkRelations has findings for foreign tables.
    ...(catalog?.skipped ?? [])
      .filter(({ what }) => !what.startsWith("foreign table "))
      .map(({ what, why }) => finding("left-out", what, why)),
  ];
}

/** A kind of table that is copied with a restriction or an explanation: its code, the tables of this kind, the text, the remedy. */
const RELATION_CHECKS: [Code, (relation: Relation) => boolean, string, string?][] = [
  [
    "foreign-table",
    ({ kind }) => kind === "f",
    "its rows are on another server; only its definition is copied",
    "To read it, create a user mapping on the target after the import: CREATE USER MAPPING",
  ],
  [
    "no-primary-key",
    ({ kind, keyed }) => kind === "r" && !keyed,
    "has no primary key: if rows differed, the report could only count them",
  ],
  [
    "unlogged-table",
    ({ kind, unlogged }) => kind === "r" && unlogged,
    "is unlogged: it is copied, and a crash of the server empties it, as on the source",
  ],
  [
    "partitioned-table",
    ({ kind, isPartition }) => kind === "p" && !isPartition,
    "is partitioned: its partitions are copied and compared",
  ],
  [
    "inherited-table",
    ({ inherits }) => inherits,
    "inherits from another table; each table is copied and compared by itself",
  ],
  [
    "generated-column",
    ({ kind, generated }) => generated > 0 && "rp".includes(kind),
    "has generated columns: the target computes them, and they are compared",
  ],
  [
    "identity-column",
    ({ kind, identity }) => identity > 0 && "rp".includes(kind),
    "has an identity column; its sequence continues from the source's value",
  ],
];

const checkRelations = (relations: readonly Relation[]): Finding[] =>
  RELATION_CHECKS.flatMap(([code, applies, text, remedy]) =>
    findings(
      code,
      relations.filter(applies).map(({ name }) => name),
      text,
      remedy,
    ),
  );

/** Checks the Alembic revision from which migrations continue. */
function checkAlembic(catalog: Catalog | undefined): Finding[] {
  const table = catalog?.tables.find(({ name }) => name === "alembic_version");
  if (catalog === undefined || table === undefined) return [];
  const subject = `${table.schema}.${table.name}`;
  const revision = catalog.alembicRevision;
  if (revision === undefined) {
    return [
      finding(
        "alembic-empty",
        subject,
        "is empty: Alembic would start with its first migration, although the tables exist",
        "On the source: alembic stamp REVISION",
      ),
    ];
  }
  if (revision.includes(", ")) {
    return [
      finding(
        "alembic-several",
        subject,
        `holds several revisions (${revision}): the migrations have more than one head`,
        "If that is not intended, merge them: alembic merge heads",
      ),
    ];
  }
  return [finding("alembic-revision", `revision ${revision}`, "is where migrations continue")];
}
