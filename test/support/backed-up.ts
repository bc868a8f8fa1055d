/** A stack with backups, as the tests look at it: commands, the inside of its containers, and a writer that keeps its own list. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type BackupReport, parseReport } from "../../components/backups/report.ts";
import { docker } from "../../lib/docker.ts";
import { connect } from "./session.ts";
import { type Said, type TestStack, type Update, urlAddress } from "./test-stack.ts";

export const STORE = "/var/lib/sectorwars-backups";
export const REPOSITORY = `${STORE}/repository`;

/** Waits for something to become true, seconds at most. */
export async function until(what: string, fine: () => Promise<boolean>, seconds = 60): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !(await fine()); await sleep(300)) {
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
  }
}

/** A restore asks before it replaces anything, and tests have no terminal. */
const answered = (subcommand: string, args: readonly string[]) =>
  subcommand === "restore" ? [...args, "--yes"] : args;

export class BackedUp {
  readonly stack: TestStack;

  constructor(stack: TestStack) {
    this.stack = stack;
  }

  /** Runs a subcommand of ./db to its end, whatever that is. */
  command(name: string, ...args: string[]): Promise<Said> {
    return this.stack.db(name, ...answered(name, args));
  }

  /** Begins one that is to be interrupted. */
  begin(name: string, ...args: string[]): Update {
    return this.stack.beginDb(name, ...answered(name, args));
  }

  async succeed(name: string, ...args: string[]): Promise<string> {
    const said = await this.command(name, ...args);
    if (said.code !== 0) throw new Error(`${name} ${args.join(" ")} failed:\n${said.text}`);
    return said.text;
  }

  /** What one that succeeds tells machines. */
  async result(name: string, ...args: string[]) {
    const said = await this.command(name, ...args, "--json");
    if (said.code !== 0) throw new Error(`${name} ${args.join(" ")} --json failed:\n${said.text}`);
    return JSON.parse(said.stdout);
  }

  /** A line of shell in the container that takes the backups, as root. */
  inside(line: string): Promise<string> {
    return docker(["exec", this.stack.names.backups, "sh", "-c", line]);
  }

  /** A line of shell in the server's container, as the server's user. */
  inServer(line: string): Promise<string> {
    return docker(["exec", "-u", "postgres", this.stack.names.container, "sh", "-c", line]);
  }

  async report(): Promise<BackupReport> {
    return parseReport(await this.inside("sectorwars-backup report"));
  }

  /** The first column of the first row. */
  value(sql: string): Promise<unknown> {
    return this.stack.as(
      "superuser",
      async (client) => (await client.query<unknown[]>({ text: sql, rowMode: "array" })).rows[0]?.[0],
    );
  }

  /** Numbers that are in the ledger now. */
  written(): Promise<Set<number>> {
    return this.stack.as(
      "owner",
      async (client) => new Set((await client.query("SELECT n FROM ledger")).rows.map((row) => row.n)),
    );
  }

  /** Until all that was written is archived, and no backup is being made or wanted. */
  quiet(seconds = 120): Promise<void> {
    return until(
      "quiet",
      async () => {
        const { running, waiting, openGap } = await this.report();
        return running === "" && waiting === 0 && openGap === "" && !(await this.wantsFull());
      },
      seconds,
    );
  }

  private async wantsFull(): Promise<boolean> {
    return (await this.inside(`ls ${STORE}/state`)).includes("full.wanted");
  }
}

/** Writes rows one after another, and remembers which commits were acknowledged, and when. */
export class Writer {
  readonly acknowledged = new Map<number, number>();
  private readonly stack: TestStack;
  private stopped = false;
  private readonly end: Promise<void>;
  private next: number;

  constructor(stack: TestStack, from: number) {
    this.stack = stack;
    this.next = from;
    this.end = this.write();
  }

  private async write(): Promise<void> {
    let client: pg.Client | undefined;
    const { urls } = await this.stack.outputs();
    while (!this.stopped) {
      const n = this.next;
      this.next += 1;
      try {
        client ??= await connect(urlAddress(urls.app), { patienceMs: 20_000 });
        await client.query("INSERT INTO ledger VALUES ($1)", [n]);
        this.acknowledged.set(n, Date.now());
      } catch {
        await client?.end().catch(() => {});
        client = undefined;
      }
      await sleep(5);
    }
    await client?.end().catch(() => {});
  }

  async stop(): Promise<number[]> {
    this.stopped = true;
    await this.end;
    return [...this.acknowledged.keys()];
  }

  /** What was acknowledged before a moment, milliseconds since 1970. */
  before(moment: number): number[] {
    return [...this.acknowledged].filter(([, at]) => at < moment).map(([n]) => n);
  }
}
