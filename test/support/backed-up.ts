/** A stack with backups: runs its commands, looks into its containers, and writes rows whose commits it records. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type BackupReport, parseReport } from "../../components/backups/report.ts";
import { docker } from "../../lib/docker.ts";
import { connect } from "./session.ts";
import { type CommandResult, type RunningProgram, type TestStack, urlAddress } from "./test-stack.ts";

export const STORE = "/var/lib/sectorwars-backups";
export const REPOSITORY = `${STORE}/repository`;

/**
 * Waits until a condition holds.
 * @param what what the test waits for, for the error.
 * @throws {Error} if the condition does not hold within `seconds`.
 */
export async function until(what: string, condition: () => Promise<boolean>, seconds = 60): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !(await condition()); await sleep(300)) {
    if (Date.now() > end) throw new Error(`Timed out after ${seconds} s, waiting for ${what}`);
  }
}

/** Settings of an empty stack whose backups and drills run only when a test starts them. */
export const BACKED_UP = {
  bootstrap: "empty",
  memory: "512",
  backups: "true",
  backupFull: "never",
  backupDifferential: "never",
  backupDrill: "never",
};

/** Adds the answer to a restore's question, because tests have no terminal. */
const withAnswer = (subcommand: string, args: readonly string[]) =>
  subcommand === "restore" ? [...args, "--yes"] : args;

export class BackedUp {
  readonly stack: TestStack;

  constructor(stack: TestStack) {
    this.stack = stack;
  }

  /** Runs a subcommand of ./db and returns its output and exit code, even if it fails. */
  command(name: string, ...args: string[]): Promise<CommandResult> {
    return this.stack.db(name, ...withAnswer(name, args));
  }

  /** Starts a subcommand that the test will interrupt. */
  begin(name: string, ...args: string[]): RunningProgram {
    return this.stack.beginDb(name, ...withAnswer(name, args));
  }

  async succeed(name: string, ...args: string[]): Promise<string> {
    const said = await this.command(name, ...args);
    if (said.code !== 0) throw new Error(`${name} ${args.join(" ")} failed:\n${said.text}`);
    return said.text;
  }

  /** Runs a subcommand with --json and returns the parsed output. */
  async result(name: string, ...args: string[]) {
    const said = await this.command(name, ...args, "--json");
    if (said.code !== 0) throw new Error(`${name} ${args.join(" ")} --json failed:\n${said.text}`);
    return JSON.parse(said.stdout);
  }

  /** Runs a line of shell in the backup container, as root. */
  inside(line: string): Promise<string> {
    return docker(["exec", this.stack.names.backups, "sh", "-c", line]);
  }

  /** Runs a line of shell in the server's container, as the server's user. */
  inServer(line: string): Promise<string> {
    return docker(["exec", "-u", "postgres", this.stack.names.container, "sh", "-c", line]);
  }

  async report(): Promise<BackupReport> {
    return parseReport(await this.inside("sectorwars-backup report"));
  }

  /** Runs a query as the superuser and returns the first column of its first row. */
  value(sql: string): Promise<unknown> {
    return this.stack.as(
      "superuser",
      async (client) => (await client.query<unknown[]>({ text: sql, rowMode: "array" })).rows[0]?.[0],
    );
  }

  /** Returns the numbers that are in the table ledger. */
  written(): Promise<Set<number>> {
    return this.stack.as(
      "owner",
      async (client) => new Set((await client.query("SELECT n FROM ledger")).rows.map((row) => row.n)),
    );
  }

  /** The number of full backups in the repository. */
  async fulls(): Promise<number> {
    return ((await this.report()).info?.[0]?.backup ?? []).filter(({ type }) => type === "full").length;
  }

  /** Waits until all WAL is archived, and no backup is running or requested. */
  quiet(seconds = 120): Promise<void> {
    return until(
      "the archive to catch up and backups to end",
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

/** Inserts one row after another, and records which commits the server acknowledged, and when. */
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

  /** Returns the rows that were acknowledged before a time, in milliseconds since 1970. */
  before(time: number): number[] {
    return [...this.acknowledged].filter(([, at]) => at < time).map(([n]) => n);
  }
}
