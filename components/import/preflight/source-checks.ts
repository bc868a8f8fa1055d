/** What the source's own answers mean for an import. Pure. */
import { TARGET_MAJOR } from "../schema.ts";
import type { Catalog } from "../types.ts";
import { type Finding, finding, findings } from "./findings.ts";
import type { About, Lock, Relation, SourceLook } from "./source-look.ts";
import { SUPERUSER_KINDS } from "./superuser-kinds.ts";

/** Generated columns, which the catalog is asked about, came with 12. */
export const OLDEST_SOURCE = 12;
/** A newer one may have in its catalog what nobody here knows of. */
export const NEWEST_SOURCE = 18;

/** A version that cannot be imported, or undefined. */
export function checkVersion(major: number, version: string): Finding | undefined {
  if (major >= OLDEST_SOURCE && major <= NEWEST_SOURCE) return undefined;
  const remedy =
    major < OLDEST_SOURCE
      ? "Upgrade it there first (pg_upgrade, or a new Neon project)"
      : "Look for a newer version of this project";
  return finding(
    "version-unsupported",
    `PostgreSQL ${version}`,
    `versions ${OLDEST_SOURCE} to ${NEWEST_SOURCE} can be imported`,
    remedy,
  );
}

/** Server, role, and who else is at work there. */
export function checkAbout(about: About, locks: readonly Lock[], jobs: number): Finding[] {
  const found: Finding[] = [];
  const { version, major, role } = about;
  if (major > TARGET_MAJOR) {
    found.push(
      finding(
        "version-newer",
        `PostgreSQL ${version}`,
        `is newer than the copy's ${TARGET_MAJOR}; a newer pg_dump reads it`,
      ),
    );
  }
  if (about.encoding !== "UTF8") {
    found.push(
      finding(
        "encoding-unsupported",
        `encoding ${about.encoding}`,
        "only UTF8 can be imported",
        "Convert it there first",
      ),
    );
  }
  // One session holds the snapshot, the others copy; pg_dump needs one before they begin.
  const needed = Math.max(jobs, 1) + 1;
  if (about.connectionsLeft < needed) {
    found.push(
      finding(
        "connections-exhausted",
        `role ${role}`,
        `may open ${Math.max(about.connectionsLeft, 0)} more connections, the import needs ${needed}`,
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
        "Wait for it to end, or end it on the source: SELECT pg_terminate_backend(PID), or ROLLBACK PREPARED",
      ),
    );
  }
  found.push(
    ...about.prepared.map(({ gid, age }) =>
      finding(
        "prepared-transactions",
        `transaction ${gid}`,
        `was prepared ${age} ago and has not ended; what it wrote will not be in the copy`,
        "COMMIT PREPARED or ROLLBACK PREPARED it on the source",
      ),
    ),
  );
  if (about.isReplica) {
    found.push(
      finding(
        "source-is-replica",
        "the source",
        "is a replica; a long read may be cancelled there in favour of replication",
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

/** What the role may not see. Both would end the import later, in the middle of the rows. */
export function checkPrivileges({ relations, schemas, unreadableLargeObjects }: SourceLook, role: string): Finding[] {
  // Definitions of views and foreign tables are read from the catalog, which is open to all.
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
      `row-level security is forced, so it may hide rows from the owner too`,
      `On the source: ALTER ROLE ${role} BYPASSRLS, or ALTER TABLE ... NO FORCE ROW LEVEL SECURITY`,
    ),
  ];
}

/** Objects that the import does not create, because only a superuser can. */
export const checkSuperuserObjects = ({ superuserObjects }: SourceLook): Finding[] =>
  superuserObjects.flatMap(({ kind, object }) => {
    const known = SUPERUSER_KINDS[kind];
    return known
      ? finding("superuser-needed", object, `only a superuser can create it: it ${known.what}`, known.remedy)
      : [];
  });

/** Kinds of objects that do not come along as they are, or that behave in their own way. */
export function checkContents(look: SourceLook, catalog: Catalog | undefined): Finding[] {
  const { relations } = look;
  const named = (of: readonly Relation[]) => of.map(({ name }) => name);
  const tables = relations.filter(({ kind }) => kind === "r");
  return [
    ...look.largeObjects.map(({ count }) =>
      finding(
        "large-objects",
        `${count} large object${count === 1 ? "" : "s"}`,
        "copied with their numbers and comments; the owner here owns them, and the application may read and change them",
      ),
    ),
    ...findings(
      "invalid-index",
      look.invalidIndexes,
      "is invalid on the source (a CREATE INDEX CONCURRENTLY that failed) and not copied",
      "REINDEX INDEX it there, or drop it",
    ),
    ...findings(
      "foreign-table",
      named(relations.filter(({ kind }) => kind === "f")),
      "its rows live on another server; only its definition is copied",
      "Create a user mapping here afterwards, if it is to be read",
    ),
    ...findings(
      "extension-rows",
      look.extensionTables.map(({ extension, table }) => `${table} (${extension})`),
      "belongs to an extension, which makes it anew; rows that were added to it are not copied",
      "Add them here afterwards, if there are any",
    ),
    ...checkAlembic(catalog),
    ...findings(
      "no-primary-key",
      named(tables.filter(({ keyed }) => !keyed)),
      "has no primary key: were rows to differ, they would be told by number, not by name",
    ),
    ...findings(
      "unlogged-table",
      named(tables.filter(({ unlogged }) => unlogged)),
      "is unlogged: copied, and emptied by a crash of the server, here as there",
    ),
    ...findings(
      "partitioned-table",
      named(relations.filter(({ kind, isPartition }) => kind === "p" && !isPartition)),
      "is partitioned; it is copied and proven by its partitions",
    ),
    ...findings(
      "inherited-table",
      named(relations.filter(({ inherits }) => inherits)),
      "inherits from another table; each is copied and proven for itself",
    ),
    ...findings(
      "generated-column",
      named(relations.filter(({ kind, generated }) => generated > 0 && "rp".includes(kind))),
      "has generated columns: computed here, and compared",
    ),
    ...findings(
      "identity-column",
      named(relations.filter(({ kind, identity }) => identity > 0 && "rp".includes(kind))),
      "has an identity column; its sequence goes on where the source's is",
    ),
    // Foreign tables are told above, with their names.
    ...(catalog?.skipped ?? [])
      .filter(({ what }) => !what.startsWith("foreign table "))
      .map(({ what, why }) => finding("left-out", what, why)),
  ];
}

/** The revision that Alembic wrote down: migrations go on from it. */
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
        "is empty: Alembic would begin with its first migration, on tables that are there",
        "On the source: alembic stamp REVISION",
      ),
    ];
  }
  if (revision.includes(", ")) {
    return [
      finding(
        "alembic-several",
        subject,
        `names several revisions (${revision}): migrations have more than one head`,
        "Merge them (alembic merge heads), or check that this is meant",
      ),
    ];
  }
  return [finding("alembic-revision", `revision ${revision}`, "is where migrations go on")];
}
