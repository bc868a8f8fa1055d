/** What must hold before anything is written, found out in one pass. */
import type pg from "pg";
import { type DockerError, docker } from "../../lib/docker.ts";
import { withConnection } from "../../lib/postgres.ts";
import { findRelations, readCatalog } from "./catalog.ts";
import { TARGET_MAJOR } from "./schema.ts";
import { openSource } from "./session.ts";
import { readMarker } from "./swap.ts";
import type { Catalog, ImportSpec, ImportSummary } from "./types.ts";

const NEWEST_SOURCE = 18;
/** Generated columns, which the catalog is asked about, came with 12. */
const OLDEST_SOURCE = 12;

/** The import's answer to a target that has been filled before, or to a source that may be copied. */
export type Preflight =
  | { done: ImportSummary }
  | { done?: undefined; catalog: Catalog; targetVersion: string; targetCollation: string; remarks: string[] };

/** What to do about Neon's own refusals, by their words: the proxy calls all of them internal errors. */
const NEON_REFUSALS: [RegExp, string][] = [
  [/endpoint could not be found/i, "Copy NEON_DATABASE_URL anew from the Neon console"],
  [/exceeded the .*quota/i, "Look at the project's usage in the Neon console"],
  [/IP address .* is not allowed/i, "Add this machine to the project's IP Allow list in the Neon console"],
];

/** The error for a source that cannot be reached, by what the server or the network said. */
export function describeSourceError(label: string, error: unknown): Error {
  const { code, message } = error as { code?: string; message?: string };
  const remedies: Record<string, string> = {
    "28P01": "The password is wrong. Copy NEON_DATABASE_URL anew from the Neon console",
    "28000": "The server refuses this user. Check the user in NEON_DATABASE_URL",
    "55P03": "Somebody is changing a table there. Run pulumi up again when that is done",
    "3D000": "There is no such database. Check the name at the end of NEON_DATABASE_URL",
    EAI_AGAIN: "The host's name cannot be looked up now. Check the network",
    CERT_SIGNATURE_FAILURE: "Its certificate is signed by nobody this machine trusts",
    ENOTFOUND: "The host's name is not known. Check it in NEON_DATABASE_URL, and the network",
    ECONNREFUSED: "Nobody listens there. Check host and port in NEON_DATABASE_URL",
    ETIMEDOUT: "There is no answer. Check the network, and whether the project is suspended in the Neon console",
    SELF_SIGNED_CERT_IN_CHAIN: "Its certificate is signed by nobody this machine trusts",
    DEPTH_ZERO_SELF_SIGNED_CERT: "Its certificate is signed by nobody this machine trusts",
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: "Its certificate is signed by nobody this machine trusts",
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "Its certificate is signed by nobody this machine trusts",
    ERR_TLS_CERT_ALTNAME_INVALID: "Its certificate is for another host: this may not be the server you mean",
    CERT_HAS_EXPIRED: "Its certificate has expired",
  };
  const refusal = NEON_REFUSALS.find(([words]) => words.test(message ?? ""))?.[1];
  const remedy = refusal ?? remedies[code ?? ""] ?? "Check NEON_DATABASE_URL and the network";
  return new Error(`The source ${label} cannot be read: ${message ?? code}. ${remedy}.`, { cause: error });
}

/** Problems of the source for this target, each with its remedy. */
export function findBlockers(
  catalog: Catalog,
  target: { majorVersion: number; available: ReadonlySet<string> },
): string[] {
  const blockers: string[] = [];
  if (catalog.majorVersion < OLDEST_SOURCE || catalog.majorVersion > NEWEST_SOURCE) {
    blockers.push(
      `the source runs PostgreSQL ${catalog.version}; versions ${OLDEST_SOURCE} to ${NEWEST_SOURCE} can be imported`,
    );
  }
  if (catalog.encoding !== "UTF8") {
    blockers.push(`the source's encoding is ${catalog.encoding}; only UTF8 can be imported. Convert it there first`);
  }
  for (const { name, version } of catalog.extensions) {
    if (!target.available.has(name)) {
      blockers.push(
        `the source uses the extension ${name} ${version}, which the database image does not have. Add it in ` +
          `images/database/Dockerfile, or drop it on the source`,
      );
    }
  }
  return blockers;
}

/**
 * Looks at both ends. Opens one read-only connection to the source, unless the target has been filled before.
 * @throws {Error} that lists every blocker with its remedy.
 */
export async function preflight(spec: ImportSpec): Promise<Preflight> {
  const { source, target } = spec;
  const side = await withTarget(spec, inspectTarget);
  if (side.marker) return { done: side.marker };
  const blockers: string[] = [];
  if (side.relations.length > 0) {
    blockers.push(
      `the database ${target.address.database} is not empty (${side.relations.join(", ")}${side.relations.length === 5 ? ", ..." : ""}) ` +
        `and nothing is ever overwritten. Reset the stack (pulumi destroy, then pulumi up), or use a new one (pulumi stack init NAME)`,
    );
  }

  let catalog: Catalog;
  try {
    const client = await openSource(source.address);
    try {
      await refuseOld(client);
      catalog = await readCatalog(client);
    } finally {
      await client.end().catch(() => {});
    }
  } catch (error) {
    throw describeSourceError(source.label, error);
  }
  blockers.push(...findBlockers(catalog, side), ...(await findDumpBlockers(spec, catalog)));
  if (blockers.length > 0) {
    throw new Error(`The import cannot start, and nothing was changed:\n${blockers.map((b) => `  - ${b}`).join("\n")}`);
  }
  const remarks = [...source.remarks];
  if (catalog.collation !== side.collation) {
    remarks.push(
      `text sorts by ${side.collation} here and by ${catalog.collation} on the source; indexes are built anew`,
    );
  }
  return { catalog, targetVersion: side.version, targetCollation: side.collation, remarks };
}

/** A version whose catalog has not what is asked for is refused before it is asked. */
async function refuseOld(client: pg.Client): Promise<void> {
  const { rows } = await client.query("SHOW server_version_num");
  const major = Math.floor(Number(rows[0].server_version_num) / 10000);
  if (major < OLDEST_SOURCE) {
    throw new Error(`it runs PostgreSQL ${major}; versions ${OLDEST_SOURCE} to ${NEWEST_SOURCE} can be imported`);
  }
}

/** A source newer than the target needs a pg_dump of its own version or a newer one. */
async function findDumpBlockers({ newerImage, dockerHost }: ImportSpec, catalog: Catalog): Promise<string[]> {
  if (catalog.majorVersion <= TARGET_MAJOR || catalog.majorVersion > NEWEST_SOURCE) return [];
  const said = await docker(["run", "--rm", "--entrypoint", "pg_dump", newerImage, "--version"], {
    host: dockerHost,
  }).catch((error: DockerError) => error.stderr);
  const major = Number(/\(PostgreSQL\) (\d+)/.exec(said)?.[1] ?? 0);
  if (major >= catalog.majorVersion) return [];
  const have =
    major > 0 ? `${newerImage} has that of ${major}` : `the image ${newerImage} is not here: script/bootstrap newer`;
  return [
    `the source runs PostgreSQL ${catalog.version}, which only a pg_dump of that version or newer reads, and ${have}`,
  ];
}

const withTarget = <T>(spec: ImportSpec, work: (client: pg.Client) => Promise<T>) =>
  withConnection(spec.target.address, work, { patienceMs: 10_000 });

async function inspectTarget(client: pg.Client) {
  const marker = await readMarker(client);
  const relations = await findRelations(client);
  const { version, majorVersion, collation } = await readCatalog(client);
  const { rows } = await client.query<{ name: string }>("SELECT name FROM pg_available_extensions");
  return { marker, relations, version, majorVersion, collation, available: new Set(rows.map((row) => row.name)) };
}
