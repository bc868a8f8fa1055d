/** Scopes: everything that work opens in a scope ends together with it: connections, docker commands, pauses. */
import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { Address } from "./postgres.ts";

const ambient = new AsyncLocalStorage<Scope | "outside">();

/** Returns the scope that the calling code runs in, at any depth, or undefined outside of scopes. */
export function currentScope(): Scope | undefined {
  const found = ambient.getStore();
  return found === "outside" ? undefined : found;
}

/** Runs work outside of any scope: cleanup must not be cancelled together with the work that it cleans up. */
export const outsideScopes = <T>(work: () => Promise<T>): Promise<T> => ambient.run("outside", work);

/** Returns whether {@link outsideScopes} runs the calling code. Ctrl-C, which a terminal also sends to children, must not end its children. */
export const isOutsideScopes = (): boolean => ambient.getStore() === "outside";

/**
 * The resources that work has opened, with a function that ends each of them at once. Passing an abort signal through every function
 * would do the same, but a connection that misses it would outlive its import.
 */
export class Scope {
  private readonly endings = new Map<() => void, unknown>();
  /** The reason for which the scope was closed; undefined while it is open. */
  reason: Error | undefined;

  /** Runs work in this scope. {@link close} ends everything that it opens through lib/postgres.ts and lib/docker.ts. */
  run<T>(work: () => Promise<T>): Promise<T> {
    return ambient.run(this, work);
  }

  /**
   * Registers an opened resource.
   * @param what the resource itself, if {@link endAllBut} or {@link release} needs to identify it.
   * @returns a function that unregisters it, to call after it has ended.
   */
  add(end: () => void, what?: unknown): () => void {
    if (this.reason) end();
    else this.endings.set(end, what);
    return () => this.endings.delete(end);
  }

  /** Lets a resource outlive the scope: its opener has to end it. */
  release(what: unknown): void {
    for (const [end, registered] of this.endings) if (registered === what) this.endings.delete(end);
  }

  /** Is called for every connection that is opened inside, with its server process. */
  opened(_client: pg.Client, _address: Address, _pid: number): void {}

  /** @throws the reason, if the scope is closed. */
  check(): void {
    if (this.reason) throw this.reason;
  }

  /** Ends all resources, and makes later attempts to open one fail with the reason. Only the first call has an effect. */
  close(reason: Error): void {
    if (this.reason) return;
    this.reason = reason;
    this.endAllBut(undefined);
  }

  /** Ends all resources except one. The scope stays open. */
  endAllBut(exception: unknown): void {
    for (const [end, what] of this.endings) {
      if (what !== undefined && what === exception) continue;
      this.endings.delete(end);
      end();
    }
  }
}

/**
 * Waits, until the scope is closed at the latest.
 * @param ms milliseconds.
 * @throws the reason, if the scope was closed.
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
