/**
 * Copies large objects. They are read in pieces in the exported snapshot, and created on the target with the same OIDs, because tables
 * refer to them by OID. The proof compares the digest of what the source sent with that of what the target's server holds.
 */
import { createHash, type Hash } from "node:crypto";
import type pg from "pg";
import { to as copyTo } from "pg-copy-streams";
import { ident, literal } from "../../../lib/postgres.ts";
import { ROLE_NAMES } from "../../../lib/role-names.ts";

/** Bytes that are read, hashed and written at once. Do not change it: the digests in safety copies and baselines depend on it. */
export const PIECE_BYTES = 1024 * 1024;
/** Most bytes in unfinished statements before the source is read further. */
const UNDERWAY_BYTES = 4 * PIECE_BYTES;
/** Most unfinished statements. */
const UNDERWAY_STATEMENTS = 500;
/** Objects named in one GRANT. */
const GRANTED_AT_ONCE = 1000;
/** Objects named in a message. */
const NAMED = 10;

/** Digest of all large objects of a database. Equal digests mean equal OIDs, bytes and comments. */
export interface LargeObjectsDigest {
  objects: number;
  bytes: number;
  /** SHA-256 of one line for each object, in the order of their OIDs. */
  sha256: string;
}

/** Returns a digest as one string. */
export const describeLargeObjects = ({ objects, bytes, sha256 }: LargeObjectsDigest): string =>
  `${objects} objects, ${bytes} bytes, ${sha256}`;

/** Key of the large objects among states. */
export const LARGE_OBJECTS = "large objects";

/** Privileges that the source grants the application itself, by the object's OID. */
export type OwnGrants = Readonly<Record<string, string[]>>;

/** A piece of an object. */
export interface Piece {
  oid: number;
  /** Position in the object, bytes. */
  offset: number;
  /** Bytes of the whole object. */
  size: number;
  data: Buffer;
}

/** Observes large objects while they are copied. The copy waits for a returned promise. */
export interface LargeObjectsObserver {
  piece(piece: Piece): Promise<void> | undefined;
  comment(oid: number, text: string): Promise<void> | undefined;
}

/**
 * Objects with their sizes, in the order of their OIDs. The size comes from seeking to the end (mode 262144 is INV_READ), because only
 * superusers can read pg_largeobject. Each step depends on the one before, so they run in this order, once for each object; OFFSET 0
 * keeps the planner from merging them. Each step refers to the OID: descriptors are reused, and a step that depended only on its
 * descriptor could get an earlier one's cached result (Memoize, PostgreSQL 14).
 */
const SIZED = `
  (SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid OFFSET 0) m
  CROSS JOIN LATERAL (SELECT pg_catalog.lo_open(m.oid, 262144) AS fd OFFSET 0) o
  CROSS JOIN LATERAL (SELECT CASE WHEN m.oid IS NOT NULL THEN pg_catalog.lo_lseek64(o.fd, 0, 2) END AS bytes OFFSET 0) s
  CROSS JOIN LATERAL (SELECT CASE WHEN m.oid IS NOT NULL AND pg_catalog.lo_close(o.fd) = 0 THEN s.bytes END AS bytes OFFSET 0) c`;

const PIECES = `
  COPY (
    SELECT m.oid, c.bytes, pg_catalog.lo_get(m.oid, p.n * ${PIECE_BYTES}, ${PIECE_BYTES})
    FROM ${SIZED} CROSS JOIN LATERAL pg_catalog.generate_series(0, (c.bytes - 1) / ${PIECE_BYTES}) p(n)
  ) TO STDOUT (FORMAT binary)`;

/** A line for each object: OID, bytes, digest of its pieces' digests, digest of its comment. */
const LINES = `
  SELECT m.oid, c.bytes, pg_catalog.concat(m.oid, ' ', c.bytes, ' ', pg_catalog.encode(d.sha256, 'hex'), ' ',
      pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(t.description, 'UTF8')), 'hex'), E'\\n') AS line
  FROM ${SIZED}
  CROSS JOIN LATERAL (
    SELECT pg_catalog.sha256(pg_catalog.string_agg(
      pg_catalog.sha256(pg_catalog.lo_get(m.oid, p.n * ${PIECE_BYTES}, ${PIECE_BYTES})), ''::bytea ORDER BY p.n)) AS sha256
    FROM pg_catalog.generate_series(0, (c.bytes - 1) / ${PIECE_BYTES}) p(n) OFFSET 0) d
  LEFT JOIN pg_catalog.pg_description t
    ON t.classoid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass AND t.objoid = m.oid AND t.objsubid = 0`;

const DIGEST = `
  SELECT pg_catalog.count(*)::float8 AS objects, coalesce(pg_catalog.sum(x.bytes), 0)::float8 AS bytes,
    pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
      coalesce(pg_catalog.string_agg(x.line, '' ORDER BY x.oid), ''), 'UTF8')), 'hex') AS sha256
  FROM (${LINES}) x`;

const COMMENTS = `
  SELECT objoid AS oid, description AS text FROM pg_catalog.pg_description
  WHERE classoid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass ORDER BY objoid`;

/** A condition: the current role may read the object of row m of pg_largeobject_metadata (inv_api.c: inv_open). */
const READABLE = `
  (pg_catalog.current_setting('lo_compat_privileges')::boolean OR pg_catalog.pg_has_role(m.lomowner, 'USAGE')
   OR EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a
     WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))))`;

/** A query for the OIDs of the large objects that the session's role may not read, in a column called `value`. */
export const UNREADABLE_LARGE_OBJECTS = `
  SELECT m.oid::text AS value FROM pg_catalog.pg_largeobject_metadata m WHERE NOT ${READABLE} ORDER BY m.oid`;

/**
 * Checks that the session's role may read all large objects of its database.
 * @param label the database's name in the message.
 * @throws {Error} that names the objects and the statement that helps.
 */
export async function assertLargeObjectsReadable(client: pg.Client, label: string): Promise<void> {
  const { rows } = await client.query<{ value: string; role: string }>(
    `SELECT u.value, current_user::text AS role FROM (${UNREADABLE_LARGE_OBJECTS}) u`,
  );
  const [first] = rows;
  if (first === undefined) return;
  const oids = rows.map(({ value }) => value);
  const named = oids.slice(0, NAMED).join(", ");
  const more = oids.length > NAMED ? ` and ${oids.length - NAMED} more` : "";
  throw new Error(
    `large object${oids.length > 1 ? "s" : ""} ${named}${more}: ${first.role} lacks SELECT, so the large objects of ${label} cannot be ` +
      `compared. Run there, as their owner or a superuser: GRANT SELECT ON LARGE OBJECT ${named} TO ${ident(first.role)}`,
  );
}

/** Has the server compute the digest of all large objects of the session's database, so that only the digest crosses the wire. */
export async function digestLargeObjects(client: pg.Client): Promise<LargeObjectsDigest> {
  const { rows } = await client.query<LargeObjectsDigest>(DIGEST);
  return rows[0] as LargeObjectsDigest;
}

/** Returns the objects that differ between two databases, at most {@link NAMED} of them. */
export async function findLargeObjectDifferences(source: pg.Client, target: pg.Client): Promise<string[]> {
  const [theirs, ours] = await Promise.all([source, target].map(readLines));
  const oids = new Set([...(theirs ?? []), ...(ours ?? [])].map(([oid]) => oid));
  const differing = [...oids].sort((a, b) => a - b).filter((oid) => theirs?.get(oid) !== ours?.get(oid));
  const named = differing.slice(0, NAMED).map((oid) => {
    if (!ours?.has(oid)) return `large object ${oid}: missing on the target`;
    if (!theirs?.has(oid)) return `large object ${oid}: not on the source`;
    const [there = [], here = []] = [theirs.get(oid)?.split(" "), ours.get(oid)?.split(" ")];
    const parts = ["number", "size", "bytes", "comment"].filter(
      (_, index) => there[index]?.trim() !== here[index]?.trim(),
    );
    return `large object ${oid}: other ${parts.join(", ")}`;
  });
  return differing.length > NAMED ? [...named, `and ${differing.length - NAMED} more large objects`] : named;
}

async function readLines(client: pg.Client): Promise<Map<number, string>> {
  const { rows } = await client.query<{ oid: string; line: string }>(LINES);
  return new Map(rows.map(({ oid, line }) => [Number(oid), line]));
}

/** Computes the same digest from the pieces while they are copied. */
class RunningDigest {
  private readonly lines = createHash("sha256");
  private readonly comments: ReadonlyMap<number, string>;
  private current: { oid: number; size: number; seen: number; pieces: Hash } | undefined;
  private objects = 0;
  private bytes = 0;

  constructor(comments: ReadonlyMap<number, string>) {
    this.comments = comments;
  }

  add({ oid, size, data, offset }: Piece): void {
    if (oid !== this.current?.oid) {
      this.endObject();
      this.current = { oid, size, seen: 0, pieces: createHash("sha256") };
    }
    const { current } = this;
    if (offset !== current.seen) throw new Error(`large object ${oid}: its pieces arrived out of order`);
    current.pieces.update(createHash("sha256").update(data).digest());
    current.seen += data.length;
  }

  end(): LargeObjectsDigest {
    this.endObject();
    return { objects: this.objects, bytes: this.bytes, sha256: this.lines.digest("hex") };
  }

  private endObject(): void {
    if (this.current === undefined) return;
    const { oid, size, seen, pieces } = this.current;
    if (seen !== size) throw new Error(`large object ${oid}: expected ${size} bytes, received ${seen}`);
    const comment = this.comments.get(oid);
    const ofComment = comment === undefined ? "" : createHash("sha256").update(comment).digest("hex");
    this.lines.update(`${oid} ${size} ${pieces.digest("hex")} ${ofComment}\n`);
    this.objects += 1;
    this.bytes += size;
  }
}

/** Reads a stream in chunks of requested lengths. */
class Bytes {
  private readonly chunks: AsyncIterator<Buffer>;
  private held: Buffer = Buffer.alloc(0);

  constructor(stream: AsyncIterable<Buffer>) {
    this.chunks = stream[Symbol.asyncIterator]();
  }

  async take(length: number): Promise<Buffer> {
    const parts = [this.held];
    let have = this.held.length;
    while (have < length) {
      const { value, done } = await this.chunks.next();
      if (done) throw new Error("the source's large objects ended in the middle of an object");
      parts.push(value);
      have += value.length;
    }
    const all = parts.length === 1 ? this.held : Buffer.concat(parts);
    this.held = all.subarray(length);
    return all.subarray(0, length);
  }

  /** Reads the stream to its end, so that the session can be used again. */
  async drain(): Promise<void> {
    while (!(await this.chunks.next()).done);
  }
}

/** Bytes of signature, flags, and length of the header extension in COPY's binary format (PostgreSQL manual, COPY). */
const HEADER_BYTES = 19;
const END_OF_DATA = -1;

/** Reads all large objects of a session's database, piece by piece. Each has at least one piece, which may be empty. */
async function* readPieces(client: pg.Client): AsyncGenerator<Piece> {
  const bytes = new Bytes(client.query(copyTo(PIECES)));
  await bytes.take(HEADER_BYTES);
  const field = async () => bytes.take((await bytes.take(4)).readInt32BE());
  let last: { oid: number; offset: number } | undefined;
  while ((await bytes.take(2)).readInt16BE() !== END_OF_DATA) {
    const oid = (await field()).readUInt32BE();
    const size = Number((await field()).readBigInt64BE());
    const data = await field();
    const offset = last?.oid === oid ? last.offset : 0;
    last = { oid, offset: offset + data.length };
    yield { oid, offset, size, data };
  }
  await bytes.drain();
}

/** Sends statements to a server without waiting for each, up to a limit. */
class Sender {
  private readonly client: pg.Client;
  private underway: Promise<unknown>[] = [];
  private bytes = 0;

  constructor(client: pg.Client) {
    this.client = client;
  }

  async send(sql: string, values: unknown[], bytes: number): Promise<void> {
    const sent = this.client.query(sql, values);
    // flush() reports the failure.
    sent.catch(() => {});
    this.underway.push(sent);
    this.bytes += bytes;
    if (this.bytes >= UNDERWAY_BYTES || this.underway.length >= UNDERWAY_STATEMENTS) await this.flush();
  }

  async flush(): Promise<void> {
    const { underway } = this;
    this.underway = [];
    this.bytes = 0;
    await Promise.all(underway);
  }
}

/** Reads the privileges that the source grants the application's role, if it has a role of that name. */
export async function readOwnGrants(source: pg.Client): Promise<OwnGrants> {
  const { rows } = await source.query<{ oid: string; privileges: string[] }>(
    `SELECT m.oid::text AS oid, pg_catalog.array_agg(a.privilege_type ORDER BY 1) AS privileges
     FROM pg_catalog.pg_largeobject_metadata m CROSS JOIN LATERAL pg_catalog.aclexplode(m.lomacl) a
     JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
     WHERE r.rolname = $1 AND a.grantee <> m.lomowner GROUP BY m.oid`,
    [ROLE_NAMES.app],
  );
  return Object.fromEntries(rows.map(({ oid, privileges }) => [oid, privileges]));
}

/**
 * Grants the application SELECT and UPDATE on every large object, like the default privileges of tables. If the source grants it
 * privileges on an object, it gets only those. PostgreSQL 15 has no default privileges for large objects.
 * @param client logged in as the owner.
 */
export async function grantLargeObjects(client: pg.Client, own: OwnGrants): Promise<void> {
  const { rows } = await client.query<{ oid: string }>(
    "SELECT oid::text AS oid FROM pg_catalog.pg_largeobject_metadata WHERE lomowner = current_user::regrole ORDER BY oid",
  );
  const byPrivileges = Map.groupBy(rows, ({ oid }) => (own[oid] ?? ["SELECT", "UPDATE"]).join(", "));
  for (const [privileges, objects] of byPrivileges) {
    for (let at = 0; at < objects.length; at += GRANTED_AT_ONCE) {
      const oids = objects.slice(at, at + GRANTED_AT_ONCE).map(({ oid }) => oid);
      await client.query(`GRANT ${privileges} ON LARGE OBJECT ${oids.join(", ")} TO ${ROLE_NAMES.app}`);
    }
  }
}

/**
 * Copies all large objects with their OIDs and comments. Memory use does not depend on their size.
 * @param source a session in the exported snapshot.
 * @param target a session in the staging database, logged in as the owner.
 * @param onBytes called with the bytes of each piece.
 * @returns the digest of what the source sent.
 * @throws {Error} that names an object that the source's role may not read.
 */
export async function copyLargeObjects(
  source: pg.Client,
  target: pg.Client,
  onBytes: (bytes: number) => void = () => {},
  observer?: LargeObjectsObserver,
): Promise<LargeObjectsDigest> {
  const found = await source.query<{ oid: number; text: string }>(COMMENTS);
  const comments = new Map(found.rows.map(({ oid, text }) => [oid, text]));
  const digest = new RunningDigest(comments);
  const sender = new Sender(target);
  await target.query("BEGIN");
  for await (const piece of readPieces(source)) {
    const { oid, offset, data } = piece;
    digest.add(piece);
    if (offset === 0) await sender.send("SELECT pg_catalog.lo_from_bytea($1, $2)", [oid, data], data.length);
    else await sender.send("SELECT pg_catalog.lo_put($1, $2, $3)", [oid, offset, data], data.length);
    await observer?.piece(piece);
    onBytes(data.length);
  }
  await sender.flush();
  await target.query("COMMIT");
  for (const [oid, text] of comments) {
    // Each comment runs in its own transaction, because it locks its object until the transaction ends.
    await sender.send(commentSql(oid, text), [], text.length);
    await observer?.comment(oid, text);
  }
  await sender.flush();
  return digest.end();
}

const commentSql = (oid: number, text: string) => `COMMENT ON LARGE OBJECT ${oid} IS ${literal(text)}`;

/** Statements before those of {@link pieceScript}. */
export const SCRIPT_PRELUDE = "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n";

/** Returns a statement on one line, for any psql, that creates an object or appends to one. */
export const pieceScript = ({ oid, offset, data }: Piece): string =>
  offset === 0
    ? `SELECT pg_catalog.lo_from_bytea(${oid}, '\\x${data.toString("hex")}');\n`
    : `SELECT pg_catalog.lo_put(${oid}, ${offset}, '\\x${data.toString("hex")}');\n`;

/** Comments in one transaction, which locks each commented object until it ends. */
export const COMMENTS_AT_ONCE = 1000;
/** Starts the next transaction of {@link COMMENTS_AT_ONCE}; each statement is on its own line. */
export const NEXT_TRANSACTION = "COMMIT;\nBEGIN;\n";

/** Returns a comment's statement on one line; special characters are escaped. */
export function commentScript(oid: number, text: string): string {
  const escaped = text.replaceAll(
    /['\\\p{Cc}\u2028\u2029]/gu,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `COMMENT ON LARGE OBJECT ${oid} IS E'${escaped}';\n`;
}
