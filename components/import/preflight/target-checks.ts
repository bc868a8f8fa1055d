/** What the target's answers mean for an import, alone and together with the source's. Pure. */
import { humanBytes } from "../../../lib/human-bytes.ts";
import type { Table } from "../types.ts";
import { type Finding, finding } from "./findings.ts";
import type { SourceLook } from "./source-look.ts";
import type { TargetLook } from "./target-look.ts";

/** The database and its server, before anything is known of the source. */
export function checkTarget(target: TargetLook, database: string, jobs: number): Finding[] {
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
    // One more than five is asked for nowhere: five may mean more.
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
            "was left by an import that died, or belongs to one that runs; the next clears it",
          )
        : finding(
            "target-name-taken",
            `the database ${name}`,
            "has a name that the import needs, and no import made it",
            "Rename it: ALTER DATABASE ... RENAME TO ...",
          ),
    );
  }
  // One session for the lock, one for the schema, one for each table at a time, one that looks again before the swap.
  const needed = jobs + 3;
  if (target.connectionsLeft < needed) {
    found.push(
      finding(
        "target-connections",
        "the target's server",
        `has ${Math.max(target.connectionsLeft, 0)} connections left, the import needs ${needed}`,
        "Close some, or raise maxConnections (pulumi config set maxConnections)",
      ),
    );
  }
  return found;
}

/** Compares versions part by part, numbers as numbers: 1.10 is newer than 1.9. */
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

/** Extensions that the target lacks, or has in an older version than the source. */
export function checkExtensions(source: Pick<SourceLook, "extensions">, target: TargetLook): Finding[] {
  return source.extensions.flatMap(({ name, version }): Finding[] => {
    const versions = target.extensions.get(name);
    const subject = `extension ${name} ${version}`;
    if (versions === undefined) {
      return [
        finding(
          "extension-missing",
          subject,
          "the source uses it, the database image does not have it",
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
        `the target makes ${made}${newest === made ? ", its newest" : ` (${newest} is its newest)`}: what came later is missing`,
        "Bring a newer one in by images/database/Dockerfile, if the import fails for it",
      ),
    ];
  });
}

/** Objects that need a role that is not there. */
export function checkObjects(look: SourceLook, target: TargetLook): Finding[] {
  const roles = Map.groupBy(look.policyRoles, ({ role }) => role);
  return [
    ...[...roles].flatMap(([role, uses]) =>
      target.roles.has(role)
        ? []
        : [
            finding(
              "role-missing",
              `role ${role}`,
              `policies name it (on ${uses.map(({ table }) => table).join(", ")}), and it is not on the target`,
              `./db psql --role superuser, then: CREATE ROLE "${role}" NOLOGIN`,
            ),
          ],
    ),
  ];
}

/** Room that building the largest index takes, as a part of all indexes' size: a guess on the safe side. */
const SORTING = 0.3;
/** A copy is smaller than its source, which has rows that are no more: below this part of it there is no hope. */
const LEAST = 0.6;

/** Whether the data has room, by the size of the source's database. */
export function checkRoom(free: number | undefined, sourceBytes: number, walBytes: number): Finding[] {
  if (free === undefined) {
    return [finding("disk-unknown", "the target's disk", "cannot be looked at from here; see that it has room")];
  }
  const needed = sourceBytes * (1 + SORTING) + walBytes;
  const compared = `${humanBytes(free)} free, about ${humanBytes(needed)} needed (data ${humanBytes(sourceBytes)}, the rest for sorting and log)`;
  const remedy = "Free some: docker system df shows what Docker holds, docker system prune removes what is unused";
  if (free < sourceBytes * LEAST) return [finding("disk-too-small", "the target's disk", compared, remedy)];
  if (free < needed) return [finding("disk-tight", "the target's disk", compared, remedy)];
  return [finding("disk-room", "the target's disk", compared)];
}

/** What compression leaves of a table at the least and usually: copies of texts and numbers have a third to a tenth of their size. */
const COPY_LEAST = 0.1;
const COPY_USUAL = 0.5;
/** Two disks that have the same room to a thousandth are one. */
const SAME = 0.001;

/**
 * Whether the safety copy has room. Where it shares a disk with the data, what the data will take is no longer there.
 * @param free on the copy's disk, bytes.
 * @param data room on the data's disk, and the size of the source's database.
 */
export function checkCopyRoom(
  free: number | undefined,
  tables: readonly Pick<Table, "bytes">[],
  data: { free: number | undefined; bytes: number },
): Finding[] {
  const subject = "the safety copy's disk";
  if (free === undefined) return [finding("disk-unknown", subject, "cannot be looked at; see that it has room")];
  const isShared = data.free !== undefined && Math.abs(data.free - free) <= free * SAME;
  const left = Math.max(0, isShared ? free - data.bytes : free);
  const held = tables.reduce((sum, { bytes }) => sum + bytes, 0);
  const compared = `${humanBytes(left)} free${isShared ? " beside the data" : ""}, at most about ${humanBytes(held * COPY_USUAL)} needed`;
  const remedy =
    "Free some, or let it go elsewhere (pulumi config set safetyCopyFolder PATH), or do without: safetyCopy false";
  if (left < held * COPY_LEAST) return [finding("disk-too-small", subject, compared, remedy)];
  if (left < held * COPY_USUAL) return [finding("disk-tight", subject, compared, remedy)];
  return [finding("disk-room", subject, compared)];
}
