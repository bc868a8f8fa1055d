/**
 * Finds out that an end is gone although no packet says so: a cable that was pulled, a laptop that was asleep, a proxy that
 * hangs. The kernel's own answer to data that nobody acknowledges takes 15 minutes (tcp_retries2), and a proxy's kernel
 * acknowledges for a server that is long gone. A server that works on one statement for hours is silent, too; so it is asked,
 * on another connection, before it is given up.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Address, connect, isPassing, socketOf } from "../../lib/postgres.ts";
import { Scope } from "../../lib/scope.ts";

/** How long silence is borne. */
export interface Patience {
  /** Milliseconds without a byte after which an idle session is spoken to, and one that owes an answer is asked about. */
  silenceMs: number;
  /** Milliseconds in which the server must answer that question. */
  answerMs: number;
}

/** An end that is gone is found within two silences and one answer: a minute. */
const PATIENCE: Patience = { silenceMs: 15_000, answerMs: 30_000 };
const TICK_MS = 500;
/** Looks at a session in a row that must find it cut off: an answer may be on its way during the first. */
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

/** What the server says of a session of ours. */
interface Activity {
  pid: number;
  state: string;
  wait_event: string | null;
}

const isIdle = ({ client }: Session) => (client as unknown as { readyForQuery: boolean }).readyForQuery;

/** Watches sessions for as long as they live. */
export class Pulse {
  private readonly sessions = new Set<Session>();
  private readonly patience: Patience;
  private readonly timer: NodeJS.Timeout;
  private readonly asking = new Set<string>();
  private readonly scope: Scope;

  /** @param scope the one that the sessions belong to; questions end with it. */
  constructor(scope: Scope, patience: Partial<Patience> = {}) {
    this.scope = scope;
    this.patience = { ...PATIENCE, ...patience };
    this.timer = setInterval(() => this.tick(), Math.min(TICK_MS, this.patience.silenceMs / 2));
    this.timer.unref();
  }

  /**
   * Watches one more session.
   * @param lost told, in words that complete "... went away (...)", when the session has no living server behind it.
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
      else if (now - session.heardAt >= this.patience.silenceMs) silent.push(session);
    }
    for (const session of silent) {
      // A word now and then also keeps routers in between from forgetting the connection.
      if (isIdle(session)) session.client.query("SELECT 1").catch(() => {});
      else void this.ask(session.address, silent);
    }
  }

  /** Asks a server, once at a time, what it knows of the sessions that are silent. */
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
      const why = `nothing was heard from it for ${Math.round((this.patience.silenceMs + this.patience.answerMs) / 1000)} s`;
      for (const { lost } of concerned) lost(why);
    } finally {
      this.asking.delete(server);
    }
  }

  /** A connection that nobody watches, and that ends with those that are watched. */
  private async question(address: Address, pids: number[]): Promise<Map<number, Activity>> {
    const { answerMs } = this.patience;
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
   * The server lives; does the session? Cut off is one that the server does not have, one that has long answered, and one
   * where each side waits for the other's bytes.
   */
  private judge(session: Session, activity: Activity | undefined): void {
    const socket = socketOf(session.client);
    if (socket.bytesRead + socket.bytesWritten !== session.bytes) return;
    const waitsForUs = activity?.wait_event === "ClientRead" && socket.writableLength > 0;
    const waitsToBeRead = activity?.wait_event === "ClientWrite" && socket.readableLength === 0 && !socket.isPaused();
    const isWorking = activity?.state === "active" && !waitsForUs && !waitsToBeRead;
    session.strikes = isWorking ? 0 : session.strikes + 1;
    // One that works is left in peace until the next silence.
    if (isWorking) session.heardAt = Date.now();
    else if (session.strikes >= STRIKES)
      session.lost("its answers no longer arrive: the connection was cut in between");
  }
}
