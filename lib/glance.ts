/** A short look at a server that may be down. */
import type pg from "pg";
import { type Address, withConnection } from "./postgres.ts";
import { Scope } from "./scope.ts";

/** Milliseconds that the whole look may take. */
const LONGEST_MS = 2000;

/**
 * Reads something from a server, for the diff of a resource: it must neither fail nor delay a preview when the server is down.
 * @param read must only read; the server refuses to write.
 * @returns what was read; undefined where that failed for any reason, or took longer than 2 s.
 */
export async function glance<T>(address: Address, read: (client: pg.Client) => Promise<T>): Promise<T | undefined> {
  const scope = new Scope();
  const timer = setTimeout(() => scope.close(new Error("the server did not answer in time")), LONGEST_MS);
  try {
    return await scope.run(() =>
      withConnection(address, read, { attemptMs: LONGEST_MS, setup: "SET default_transaction_read_only = on" }),
    );
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
