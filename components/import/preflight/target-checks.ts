/** Checks of the target, alone and together with the source. Pure. */
import { humanBytes } from "../../../lib/human-bytes.ts";
import type { Table } from "../types.ts";
import { type Finding, finding } from "./findings.ts";
import type { SourceContents } from "./source-info.ts";
import type { TargetInfo } from "./target-info.ts";

/** Checks the target's database and server. */
export function checkTarget(target: TargetInfo, database: string, jobs: number): Finding[] {
  const found: Finding[] = [];
  if (target.marker) {
    const { finishedAt, source } = target.marker;
    found.push(
      finding(
        "imported-before",
        database,
        `was imported at ${finishedAt} from ${source}; pulumi up imports nothing again`,
      ),
    );
  } else if (target.relations.length > 0) {
    // The query returns at most five relations, so five may mean more.
    const more = target.relations.length >= 5 ? ", ..." : "";
    found.push(
      finding(
        "target-not-empty",
        `the database ${database}`,
        `is not empty (${target.relations.join(", ")}${more}), and nothing is ever overwritten`,
        "Reset the stack (pulumi destroy, then pulumi up), or use a new one (pulumi stack init NAME)",
      ),
    );
  }
  if (target.lockHeld) {
    found.push(
      finding("import-running", database, "another import into this server is running", "Wait for it, or stop it"),
    );
  }
  for (const { name, ours } of target.sideDatabases) {
    found.push(
      ours
        ? finding(
            "side-database-left",
            name,
            "was left by an import that was killed, or belongs to a running one; the next import drops it",
          )
        : finding(
            "target-name-taken",
            `the database ${name}`,
            "has a name that the import needs, and was not made by an import",
            "Rename it: ALTER DATABASE ... RENAME TO ...",
          ),
    );
  }
  // One session for the lock, one for the schema, one for each parallel table, one for the check before the swap.
  const needed = jobs + 3;
  if (target.connectionsLeft < needed) {
    found.push(
      finding(
        "target-connections",
        "the target's server",
        `has ${Math.max(target.connectionsLeft, 0)} connections left, the import needs ${needed}`,
        "Close some, or raise the limit: pulumi config set maxConnections NUMBER",
      ),
    );
  }
  return found;
}

/** Compares versions part by part, and numbers by value: 1.10 is newer than 1.9. */
export function compareVersions(one: string, other: string): number {
  const parts = (version: string) => version.split(/[.\-_]/);
  const [a, b] = [parts(one), parts(other)];
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    const [x = "0", y = "0"] = [a[i], b[i]];
    const order = /^\d+$/.test(x) && /^\d+$/.test(y) ? Number(x) - Number(y) : x < y ? -1 : x > y ? 1 : 0;
    if (order !== 0) return order;
  }
  return 0;
}

/** Returns findings for extensions that the target lacks or has in an older version than the source. */
export function checkExtensions(source: Pick<SourceContents, "extensions">, target: TargetInfo): Finding[] {
  return source.extensions.flatMap(({ name, version }): Finding[] => {
    const versions = target.extensions.get(name);
    const subject = `extension ${name} ${version}`;
    if (versions === undefined) {
      return [
        finding(
          "extension-missing",
          subject,
          "the source uses it, and the database image does not have it",
          "Add it in images/database/Dockerfile, or drop it on the source",
        ),
      ];
    }
    const made = versions[0] ?? "";
    if (compareVersions(made, version) >= 0) return [];
    const newest = [...versions].sort(compareVersions).at(-1) ?? made;
    return [
      finding(
        "extension-older",
        subject,
        `the target creates ${made}${newest === made ? ", its newest version" : ` (its newest version is ${newest})`}, which lacks later features`,
        "If the import fails because of it, add a newer version in images/database/Dockerfile",
      ),
    ];
  });
}

/** Returns findings for objects that need a role that does not exist on the target. */
export function checkObjects(contents: SourceContents, target: TargetInfo): Finding[] {
  const roles = Map.groupBy(contents.policyRoles, ({ role }) => role);
  return [
    ...[...roles].flatMap(([role, uses]) =>
      target.roles.has(role)
        ? []
        : [
            finding(
              "role-missing",
              `role ${role}`,
              `policies name it (on ${uses.map(({ table }) => table).join(", ")}), and it does not exist on the target`,
              `./db psql --role superuser, then: CREATE ROLE "${role}" NOLOGIN`,
            ),
          ],
    ),
  ];
}

/** Disk space for sorting the largest index, as a share of the source's size; a generous estimate. */
const SORTING = 0.3;
/** Least free space, as a share of the source's size. A copy is smaller than its source because it has no dead rows. */
const LEAST = 0.6;

/** Checks the free disk space against the size of the source's database. All sizes are in bytes. */
export function checkRoom(free: number | undefined, sourceBytes: number, walBytes: number): Finding[] {
  if (free === undefined) {
    return [finding("disk-unknown", "the target's disk", "cannot be read from here; make sure that it has room")];
  }
  const needed = sourceBytes * (1 + SORTING) + walBytes;
  const compared = `${humanBytes(free)} free, about ${humanBytes(needed)} needed (data ${humanBytes(sourceBytes)}, the rest for sorting and WAL)`;
  const remedy = "Free some: docker system df shows what Docker uses, docker system prune removes what is unused";
  if (free < sourceBytes * LEAST) return [finding("disk-too-small", "the target's disk", compared, remedy)];
  if (free < needed) return [finding("disk-tight", "the target's disk", compared, remedy)];
  return [finding("disk-room", "the target's disk", compared)];
}

/** Compressed size of a table as a share of its size, least and usual. Compressed texts and numbers have 0.1 to 0.33 of their size. */
const COPY_LEAST = 0.1;
const COPY_USUAL = 0.5;
/** Two folders whose free space differs by less than this share are taken to be on one disk. */
const SAME = 0.001;

/**
 * Checks the free disk space for the safety copy. If it shares a disk with the data, the data's size is subtracted first.
 * @param free bytes on the copy's disk.
 * @param data free bytes on the data's disk, and the size of the source's database.
 */
export function checkCopyRoom(
  free: number | undefined,
  tables: readonly Pick<Table, "bytes">[],
  data: { free: number | undefined; bytes: number },
): Finding[] {
  const subject = "the safety copy's disk";
  if (free === undefined) return [finding("disk-unknown", subject, "cannot be read; make sure that it has room")];
  const isShared = data.free !== undefined && Math.abs(data.free - free) <= free * SAME;
  const left = Math.max(0, isShared ? free - data.bytes : free);
  const held = tables.reduce((sum, { bytes }) => sum + bytes, 0);
  const compared = `${humanBytes(left)} free${isShared ? " after the data" : ""}, at most about ${humanBytes(held * COPY_USUAL)} needed`;
  const remedy =
    "Free some, use another folder (pulumi config set safetyCopyFolder PATH), or make no safety copy (pulumi config set safetyCopy false)";
  if (left < held * COPY_LEAST) return [finding("disk-too-small", subject, compared, remedy)];
  if (left < held * COPY_USUAL) return [finding("disk-tight", subject, compared, remedy)];
  return [finding("disk-room", subject, compared)];
}
