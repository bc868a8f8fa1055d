/** Reads from a server that may be down. */
import type pg from "pg";
import { type Address, withConnection } from "./postgres.ts";
import { Scope } from "./scope.ts";

/** Time limit for the whole read, in milliseconds. */
const TIMEOUT_MS = 2000;

/**
 * Reads from a server, for the diff of a resource, which must neither fail nor delay a preview when the server is down.
 * @param read runs in a session whose transactions are read-only.
 * @returns the result of `read`, or undefined if it failed for any reason, or took longer than 2 s.
 */
export async function glance<T>(address: Address, read: (client: pg.Client) => Promise<T>): Promise<T | undefined> {
  const scope = new Scope();
  const timer = setTimeout(() => scope.close(new Error("the server did not answer in time")), TIMEOUT_MS);
  try {
    return await scope.run(() =>
      withConnection(address, read, { attemptMs: TIMEOUT_MS, setup: "SET default_transaction_read_only = on" }),
    );
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
