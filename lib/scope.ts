/** Everything that a piece of work opens ends together with it: connections, docker commands, pauses. */
import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { Address } from "./postgres.ts";

const ambient = new AsyncLocalStorage<Scope | "outside">();

/** The scope that the calling code runs in, however deep; undefined outside of any. */
export function currentScope(): Scope | undefined {
  const found = ambient.getStore();
  return found === "outside" ? undefined : found;
}

/** Runs work, and all that it calls, in no scope: what tidies up must not end with what it tidies up. */
export const outsideScopes = <T>(work: () => Promise<T>): Promise<T> => ambient.run("outside", work);

/** Whether the calling code was put outside of scopes: a Ctrl-C, which a terminal sends to children as well, must not end these. */
export const isOutsideScopes = (): boolean => ambient.getStore() === "outside";

/**
 * What was opened inside, and how each of it is ended at once. Passing a signal to every function in between would do the
 * same; a connection that somebody forgot would then outlive its import.
 */
export class Scope {
  private readonly endings = new Map<() => void, unknown>();
  /** Why it was closed; undefined while it is open. */
  reason: Error | undefined;

  /** Runs work in this scope. Whatever it opens through lib/postgres.ts and lib/docker.ts is ended by {@link close}. */
  run<T>(work: () => Promise<T>): Promise<T> {
    return ambient.run(this, work);
  }

  /**
   * Takes note of something that was opened.
   * @param what the thing itself, where {@link endAllBut} is to know it.
   * @returns a function that forgets it, for when it has ended by itself.
   */
  add(end: () => void, what?: unknown): () => void {
    if (this.reason) end();
    else this.endings.set(end, what);
    return () => this.endings.delete(end);
  }

  /** Lets something outlive the scope: from now on whoever opened it ends it. */
  release(what: unknown): void {
    for (const [end, noted] of this.endings) if (noted === what) this.endings.delete(end);
  }

  /** Told of every connection that is opened inside, with the server's process behind it. */
  opened(_client: pg.Client, _address: Address, _pid: number): void {}

  /** @throws the reason, once the scope is closed. */
  check(): void {
    if (this.reason) throw this.reason;
  }

  /** Ends all that is open, and makes everything that would be opened later fail with the reason. Only the first reason counts. */
  close(reason: Error): void {
    if (this.reason) return;
    this.reason = reason;
    this.endAllBut(undefined);
  }

  /** Ends all that is open, with one exception; the scope stays as it is. */
  endAllBut(exception: unknown): void {
    for (const [end, what] of this.endings) {
      if (what !== undefined && what === exception) continue;
      this.endings.delete(end);
      end();
    }
  }
}

/**
 * Waits, but not longer than the scope is open.
 * @param ms milliseconds.
 * @throws the reason for which the scope was closed.
 */
export async function pause(ms: number): Promise<void> {
  const scope = currentScope();
  if (!scope) return sleep(ms);
  const over = new AbortController();
  const forget = scope.add(() => over.abort());
  await sleep(ms, undefined, { signal: over.signal }).catch(() => {});
  forget();
  scope.check();
}
