/** Whether the target's server, asked alone, finds a table's rows to be what the source sent. */
import type pg from "pg";
import { columnList } from "./catalog.ts";
import type { Readable, Transfer } from "./rows.ts";

/** Below this the two programs take longer to start than the rows to travel, bytes of COPY data. */
export const WORTH_A_PROGRAM_BYTES = 1024 * 1024;

/**
 * The statement behind {@link serverAgrees}. It fails where the hash is another one; what the programs say is not for the server's log.
 * @param sha256 hexadecimal digits, and nothing else: they become part of a shell's command.
 * @throws {Error} for anything else.
 */
export function digestSql(table: Readable, sha256: string): string {
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new Error(`${JSON.stringify(sha256)} is not a SHA-256`);
  const program = `{ openssl dgst -sha256 -r | grep -q ^${sha256}; } >/dev/null 2>&1`;
  return `COPY ${table.sql}${columnList(table)} TO PROGRAM '${program}' (FORMAT ${table.format})`;
}

/**
 * Has the server read a table back into a program beside it, which takes its hash. Reading it back by the wire costs
 * a third more: each row is a message of its own there, and crosses two kernels' buffers (PostgreSQL manual, COPY: TO PROGRAM).
 * @returns true only when the server has read as many rows and the same bytes as were sent. False says nothing: the rows may differ, or
 * there may be no such program.
 */
export async function serverAgrees(table: Readable, sent: Transfer, target: pg.Client): Promise<boolean> {
  try {
    const { rowCount } = await target.query(digestSql(table, sent.sha256));
    return rowCount === sent.rows;
  } catch {
    return false;
  }
}
