/** The sessions and containers of one import, and what a failure among them means to a user. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Address, isPassing, maintenance } from "../../../lib/postgres.ts";
import { Scope } from "../../../lib/scope.ts";
import { LOCK_NOT_AVAILABLE } from "../schema/schema.ts";
import { ConnectionMonitor, type MonitorTimeouts } from "../session/connection-monitor.ts";
import { openTarget } from "../session/session.ts";
import { lockServer } from "../staging/swap.ts";
import type { ImportSpec } from "../types.ts";

type ImportServer = "source" | "target";

/** SQLSTATE disk_full. */
const DISK_FULL = "53100";
/** Milliseconds until both ends of a broken connection have reported it. */
export const NOTICING_MS = 300;

/** Returns the innermost cause: the error of the server or the network. */
function originOf(error: unknown): { code?: string } {
  const { cause } = error as { cause?: unknown };
  return cause instanceof Error ? originOf(cause) : (error as { code?: string });
}

/** Turns an error into one that a user can act on. A lost server is reported as such, not as a socket error. */
export async function explain(error: unknown, scope: ImportScope): Promise<unknown> {
  const { message } = error as Error;
  const origin = originOf(error);
  const { code } = origin;
  if (scope.reason) return scope.reason;
  if (code === DISK_FULL) {
    return new Error(
      `The target's disk is full (${message}); ${scope.outcome} Free some space (docker system df shows what ` +
        `Docker holds), then run ${scope.command} again.`,
      { cause: error },
    );
  }
  // Only sessions on the source have a lock_timeout.
  if (code === LOCK_NOT_AVAILABLE) {
    return new Error(
      `Another session on the source holds a lock on a table, or waits for one (TRUNCATE, ALTER TABLE, VACUUM FULL, a migration): ` +
        `${message}. Nothing was changed here; run ${scope.command} again when that session has finished.`,
      { cause: error },
    );
  }
  // A query may fail before its connection emits the error event that sets `lost`.
  const isOfTheNetwork = isPassing(origin) || code === "ERR_STREAM_PREMATURE_CLOSE";
  if (scope.lost === undefined && isOfTheNetwork) await sleep(NOTICING_MS);
  return scope.lost === undefined ? error : scope.wentAway(scope.lost, message);
}

/** The sessions and containers of one import, on the source and on the target. All of them end at once when the import ends. */
export class ImportScope extends Scope {
  /** The server whose connection was lost first. */
  lost: ImportServer | undefined;
  private readonly spec: ImportSpec;
  private readonly monitor: ConnectionMonitor;
  private lockSession: pg.Client | undefined;
  /** Whether the swap has begun. A connection that breaks from here on leaves open whether the renames were committed. */
  private swapping = false;
  /** Whether the copy is loaded and proven. From then on only the lock session is needed. */
  private loaded = false;

  constructor(spec: ImportSpec, timeouts: Partial<MonitorTimeouts> | undefined) {
    super();
    this.spec = spec;
    this.monitor = new ConnectionMonitor(this, timeouts);
  }

  /** Opens the session that holds the import's advisory lock. It outlives all other sessions. */
  async openLockSession(): Promise<pg.Client> {
    this.lockSession = await openTarget(maintenance(this.spec.target.address));
    await lockServer(this.lockSession);
    return this.lockSession;
  }

  override opened(client: pg.Client, address: Address, pid: number): void {
    const { target } = this.spec;
    const server = address.host === target.address.host && address.port === target.address.port ? "target" : "source";
    // Only a connection that breaks emits "error"; one that is closed does not.
    client.once("error", () => {
      if (this.reason === undefined && !(this.loaded && client !== this.lockSession)) this.lost ??= server;
    });
    this.monitor.watch(client, address, pid, (why) => {
      this.lost ??= server;
      this.close(this.wentAway(server, why));
    });
  }

  /** The command that starts the import again. */
  get command(): string {
    return this.spec.command ?? "pulumi up";
  }

  /** The state of the target's database, to follow "...; " in a message. */
  get outcome(): string {
    return this.swapping
      ? "the target's database is either as it was or the whole copy."
      : "the target's database is as it was.";
  }

  wentAway(server: ImportServer, why: string): Error {
    const name = server === "source" ? `The source ${this.spec.source.label}` : "The target's server";
    return new Error(
      `${name} went away while the import ran (${why}); ${this.outcome} When it is back, run ${this.command} again.`,
    );
  }

  /** Cancels the import. Once the swap has begun, it does nothing: the import finishes by itself. */
  stop(): void {
    if (this.swapping) return;
    this.close(new Error(`The import was stopped; ${this.outcome} Run ${this.command} to begin again.`));
  }

  /** Ends every session but the lock session: the source is no longer needed, and a {@link Replacement} completes the copy. */
  endLoad(): void {
    this.check();
    this.loaded = true;
    this.endAllBut(this.lockSession);
  }

  /** Ends the sessions that would block the renames. From here on, {@link stop} no longer cancels the import. */
  beginSwap(): void {
    this.endLoad();
    this.swapping = true;
  }

  override close(reason: Error): void {
    this.monitor.stop();
    super.close(reason);
  }
}
