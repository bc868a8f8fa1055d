/** Has the target's server check by itself that a table's rows are what the source sent. */
import type pg from "pg";
import { columnList } from "../schema/catalog.ts";
import type { Readable, Transfer } from "./rows.ts";

/** Bytes of COPY data below which starting the two programs takes longer than transferring the rows. */
export const WORTH_A_PROGRAM_BYTES = 1024 * 1024;

/**
 * Programs that print the SHA-256 of their standard input as the first word, fastest first. The official Alpine image has only the
 * second, from busybox. Each is faster than reading the rows back over the wire: 200 MB took 1.2 s with openssl, 1.5 s with busybox 1.37,
 * 1.9 s with coreutils, 2.0 s with busybox 1.35 (which does not use the processor's SHA instructions), and 3.9 s over the wire
 * (medians of 7 alternating runs on 2 busy cores).
 */
const COMMANDS = { openssl: "openssl dgst -sha256 -r", sha256sum: "sha256sum" } as const;

/** A program on the server that computes digests. */
export type DigestProgram = keyof typeof COMMANDS;

/**
 * Finds a program on the server that computes digests. It is looked up once, because a COPY to a missing program would leave an error
 * in the server's log for each table.
 * @param client a superuser's session in the maintenance database, outside a transaction.
 * @returns undefined if the server has no such program or does not run programs.
 */
export async function findDigestProgram(client: pg.Client): Promise<DigestProgram | undefined> {
  const names = Object.keys(COMMANDS) as DigestProgram[];
  // The shell prints the bare names, so the result does not depend on where a program is installed.
  const look = `for name in ${names.join(" ")}; do if command -v $name >/dev/null 2>&1; then echo $name; fi; done`;
  try {
    await client.query(`BEGIN;
      CREATE TEMPORARY TABLE digest_programs (name pg_catalog.text) ON COMMIT DROP;
      COPY pg_temp.digest_programs FROM PROGRAM '${look}'`);
    const { rows } = await client.query<{ name: string }>("SELECT name FROM pg_temp.digest_programs");
    return names.find((name) => rows.some((row) => row.name === name));
  } catch {
    return undefined;
  } finally {
    await client.query("ROLLBACK");
  }
}

/**
 * Returns the statement that {@link serverAgrees} runs. It fails if the digest differs, and keeps the programs' output out of the
 * server's log.
 * @param sha256 64 hexadecimal digits; they become part of a shell command.
 * @throws {Error} for any other text.
 */
export function digestSql(table: Readable, sha256: string, digestProgram: DigestProgram): string {
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new Error(`${JSON.stringify(sha256)} is not a SHA-256`);
  const program = `{ ${COMMANDS[digestProgram]} | grep -q ^${sha256}; } >/dev/null 2>&1`;
  return `COPY ${table.sql}${columnList(table)} TO PROGRAM '${program}' (FORMAT ${table.format})`;
}

/**
 * Has the server read a table back into a local program that computes its digest. That is faster than reading the rows over the wire,
 * where each row is a message and crosses two kernels' buffers (PostgreSQL manual, COPY: TO PROGRAM).
 * @returns true only if the server has read as many rows and the same bytes as were sent. If false, the rows may differ or the program
 * may have failed.
 */
export async function serverAgrees(
  table: Readable,
  sent: Transfer,
  target: pg.Client,
  digestProgram: DigestProgram,
): Promise<boolean> {
  try {
    const { rowCount } = await target.query(digestSql(table, sent.sha256, digestProgram));
    return rowCount === sent.rows;
  } catch {
    return false;
  }
}
