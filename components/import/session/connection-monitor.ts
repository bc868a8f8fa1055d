/**
 * Finds sessions whose server is gone although no packet says so: a pulled cable, a laptop that was asleep, a proxy that hangs.
 * The kernel gives up on unacknowledged data only after 15 minutes (tcp_retries2), and a proxy's kernel acknowledges for a server
 * that is gone. A server that works on one statement for hours is silent, too. So the monitor asks the server, on another
 * connection, before it declares a session lost.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Address, connect, isPassing, socketOf } from "../../../lib/postgres.ts";
import { Scope } from "../../../lib/scope.ts";

/** Timeouts of the connection monitor. */
export interface MonitorTimeouts {
  /** Milliseconds without a byte after which the monitor queries an idle session, or asks the server about a busy one. */
  silenceMs: number;
  /** Milliseconds in which the server must answer the monitor's question. */
  answerMs: number;
}

/** A server that is gone is found within two silences and one answer: one minute. */
const TIMEOUTS: MonitorTimeouts = { silenceMs: 15_000, answerMs: 30_000 };
const TICK_MS = 500;
/** Consecutive checks that must find a session cut off: an answer may be on its way during the first. */
const STRIKES = 2;

interface Session {
  client: pg.Client;
  address: Address;
  /** The server's process. */
  pid: number;
  lost: (why: string) => void;
  bytes: number;
  heardAt: number;
  strikes: number;
}

/** A row of pg_stat_activity for a session of the import. */
interface Activity {
  pid: number;
  state: string;
  wait_event: string | null;
}

const isIdle = ({ client }: Session) => (client as unknown as { readyForQuery: boolean }).readyForQuery;

/** Watches sessions until they end. */
export class ConnectionMonitor {
  private readonly sessions = new Set<Session>();
  private readonly timeouts: MonitorTimeouts;
  private readonly timer: NodeJS.Timeout;
  private readonly asking = new Set<string>();
  private readonly scope: Scope;

  /** @param scope the scope of the sessions; closing it also ends the monitor's own connections. */
  constructor(scope: Scope, timeouts: Partial<MonitorTimeouts> = {}) {
    this.scope = scope;
    this.timeouts = { ...TIMEOUTS, ...timeouts };
    this.timer = setInterval(() => this.tick(), Math.min(TICK_MS, this.timeouts.silenceMs / 2));
    this.timer.unref();
  }

  /**
   * Watches one more session.
   * @param lost called when the session has lost its server, with a reason that completes "... went away (...)".
   */
  watch(client: pg.Client, address: Address, pid: number, lost: (why: string) => void): void {
    const session: Session = { client, address, pid, lost, bytes: 0, heardAt: Date.now(), strikes: 0 };
    this.sessions.add(session);
    client.once("end", () => this.sessions.delete(session));
  }

  stop(): void {
    clearInterval(this.timer);
    this.sessions.clear();
  }

  private tick(): void {
    const now = Date.now();
    const silent: Session[] = [];
    for (const session of this.sessions) {
      const socket = socketOf(session.client);
      const bytes = socket.bytesRead + socket.bytesWritten;
      if (bytes !== session.bytes) Object.assign(session, { bytes, heardAt: now, strikes: 0 });
      else if (now - session.heardAt >= this.timeouts.silenceMs) silent.push(session);
    }
    for (const session of silent) {
      // The query also keeps routers on the way from dropping the connection as idle.
      if (isIdle(session)) session.client.query("SELECT 1").catch(() => {});
      else void this.ask(session.address, silent);
    }
  }

  /** Asks a server about its silent sessions, one question at a time. */
  private async ask(address: Address, silent: readonly Session[]): Promise<void> {
    const server = `${address.host}:${address.port}`;
    if (this.asking.has(server)) return;
    this.asking.add(server);
    const concerned = silent.filter((s) => !isIdle(s) && `${s.address.host}:${s.address.port}` === server);
    try {
      const activities = await this.question(
        address,
        concerned.map((s) => s.pid),
      );
      for (const session of concerned) this.judge(session, activities.get(session.pid));
    } catch (error) {
      if (!isPassing(error)) return;
      const why = `no answer from it for ${Math.round((this.timeouts.silenceMs + this.timeouts.answerMs) / 1000)} s`;
      for (const { lost } of concerned) lost(why);
    } finally {
      this.asking.delete(server);
    }
  }

  /** Queries pg_stat_activity on a connection that the monitor does not watch, and that ends with the watched sessions. */
  private async question(address: Address, pids: number[]): Promise<Map<number, Activity>> {
    const { answerMs } = this.timeouts;
    const scope = new Scope();
    const forget = this.scope.add(() => scope.close(new Error("the import ended")));
    const late = Object.assign(new Error("no answer"), { code: "ETIMEDOUT" });
    const timer = setTimeout(() => scope.close(late), answerMs);
    try {
      return await scope.run(async () => {
        const client = await connect(address, { patienceMs: answerMs, attemptMs: answerMs });
        const { rows } = await client
          .query<Activity>("SELECT pid, state, wait_event FROM pg_stat_activity WHERE pid = ANY ($1)", [pids])
          .catch((error) => {
            throw scope.reason ?? error;
          });
        await Promise.race([client.end(), sleep(1000)]);
        return new Map(rows.map((row) => [row.pid, row]));
      });
    } finally {
      clearTimeout(timer);
      forget();
      scope.close(new Error("asked"));
    }
  }

  /**
   * Decides whether a session is cut off while its server is up. It is if the server has no such session, if the server has
   * already answered, or if server and client each wait for the other's bytes.
   */
  private judge(session: Session, activity: Activity | undefined): void {
    const socket = socketOf(session.client);
    if (socket.bytesRead + socket.bytesWritten !== session.bytes) return;
    const waitsForUs = activity?.wait_event === "ClientRead" && socket.writableLength > 0;
    const waitsToBeRead = activity?.wait_event === "ClientWrite" && socket.readableLength === 0 && !socket.isPaused();
    const isWorking = activity?.state === "active" && !waitsForUs && !waitsToBeRead;
    session.strikes = isWorking ? 0 : session.strikes + 1;
    // A session that works is not checked again until the next silence.
    if (isWorking) session.heardAt = Date.now();
    else if (session.strikes >= STRIKES)
      session.lost("its answers no longer arrive: the connection was cut on the way");
  }
}
