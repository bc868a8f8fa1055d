/** Whether the target's server, asked alone, finds a table's rows to be what the source sent. */
import type pg from "pg";
import { columnList } from "./catalog.ts";
import type { Readable, Transfer } from "./rows.ts";

/** Below this the two programs take longer to start than the rows to travel, bytes of COPY data. */
export const WORTH_A_PROGRAM_BYTES = 1024 * 1024;

/**
 * Programs that hash their standard input with SHA-256 and print the digest first, the fastest first. The official Alpine image has only
 * the second, busybox's. Each is faster than reading the rows back over the wire: 200 MB took 1.2 s with openssl, 1.5 s with busybox 1.37,
 * 1.9 s with coreutils, 2.0 s with busybox 1.35 (which does not use the processor's SHA instructions), and 3.9 s over the wire
 * (medians of 7 alternating runs on 2 busy cores).
 */
const COMMANDS = { openssl: "openssl dgst -sha256 -r", sha256sum: "sha256sum" } as const;

/** A program on the server that computes digests. */
export type DigestProgram = keyof typeof COMMANDS;

/**
 * Finds a program on the server that computes digests. It is looked up once, because a COPY to a program that is missing leaves errors
 * in the server's log for each table.
 * @param client a superuser's session in the server's own database, in no transaction.
 * @returns undefined where there is none, or where the server does not run programs.
 */
export async function findDigestProgram(client: pg.Client): Promise<DigestProgram | undefined> {
  const names = Object.keys(COMMANDS) as DigestProgram[];
  // The names are printed by the shell itself, so the answer does not depend on where a program is installed.
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
 * Returns the statement behind {@link serverAgrees}. It fails where the digest is another one; the programs' output is kept out of the
 * server's log.
 * @param sha256 hexadecimal digits, and nothing else: they become part of a shell's command.
 * @throws {Error} for anything else.
 */
export function digestSql(table: Readable, sha256: string, digestProgram: DigestProgram): string {
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new Error(`${JSON.stringify(sha256)} is not a SHA-256`);
  const program = `{ ${COMMANDS[digestProgram]} | grep -q ^${sha256}; } >/dev/null 2>&1`;
  return `COPY ${table.sql}${columnList(table)} TO PROGRAM '${program}' (FORMAT ${table.format})`;
}

/**
 * Has the server read a table back into a program beside it, which computes its digest. That is faster than reading the rows over the
 * wire, where each row is a message of its own and crosses two kernels' buffers (PostgreSQL manual, COPY: TO PROGRAM).
 * @returns true only when the server has read as many rows and the same bytes as were sent. False says nothing: the rows may differ, or
 * the program may have failed.
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
