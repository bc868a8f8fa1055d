/** Runs imports, and checks the state in which they leave the target. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import type { ImportHooks, Phase } from "../../components/import/run/import-run.ts";
import { runImport } from "../../components/import/run/run-import.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { Scope } from "../../lib/scope.ts";
import { tableDigests } from "./compare.ts";
import { type Lab, readReport, type Server } from "./lab.ts";
import { withConnection } from "./session.ts";

export interface Attempt {
  summary?: ImportSummary;
  /** The message of the failure; empty if the import succeeded. */
  error: string;
  lines: string[];
}

/** Runs an import until it succeeds or fails. */
export async function attempt(
  spec: ImportSpec,
  hooks: Partial<ImportHooks> = {},
  signal?: AbortSignal,
): Promise<Attempt> {
  const lines: string[] = [];
  const scope = new Scope();
  signal?.addEventListener("abort", () => scope.close(new Error("stopped by the test")));
  try {
    const summary = await scope.run(() => runImport(spec, { say: (line) => lines.push(line), ...hooks }));
    return { summary, error: "", lines };
  } catch (error) {
    return { error: (error as Error).message, lines };
  }
}

/** Runs a hook's work once, when a phase begins. */
export const atPhase = (phase: Phase, work: () => Promise<unknown>): Pick<ImportHooks, "onPhase"> => ({
  onPhase: async (begun) => {
    if (begun === phase) await work();
  },
});

/** Runs a hook's work when a table's rows are in, before they are proven. */
export const atTable = (table: string, work: () => Promise<unknown>): Pick<ImportHooks, "onLoaded"> => ({
  onLoaded: async ({ name }) => {
    if (name === table) await work();
  },
});

export const stagingOf = (spec: ImportSpec): string => `${spec.target.address.database}_import`;

/** Returns the user's relations in the target; a failed import leaves none. */
export async function relationsOf(spec: ImportSpec): Promise<string[]> {
  return withConnection(spec.target.address, async (client) => {
    const { rows } = await client.query<{ name: string }>(`
      SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1`);
    return rows.map((row) => row.name);
  });
}

/** Expects that an import has left nothing: not in the target, not in other databases, not in Docker. */
export async function expectUntouched(lab: Lab, server: Server, spec: ImportSpec): Promise<void> {
  expect(await relationsOf(spec)).toEqual([]);
  await expectNothingLeft(lab, server, spec);
}

export async function expectNothingLeft(lab: Lab, server: Server, spec: ImportSpec): Promise<void> {
  const { database } = spec.target.address;
  const related = (await server.databases()).filter((name) => name.startsWith(database));
  expect(related).toEqual([database]);
  expect(await lab.leftContainers()).toEqual([]);
}

/** Compares the rows of source and target with this suite's own code. */
export async function expectSameRows(spec: ImportSpec): Promise<void> {
  const setup = "SET timezone = 'UTC'";
  const theirs = await withConnection(spec.source.address, (client) => tableDigests(client), { setup });
  const ours = await withConnection(spec.target.address, (client) => tableDigests(client), { setup });
  delete ours["sectorwars_stack.import"];
  expect(Object.keys(theirs).length).toBeGreaterThan(0);
  expect(ours).toEqual(theirs);
}

/** Expects that the import succeeds, and that the copy is complete. */
export async function expectComplete(lab: Lab, server: Server, spec: ImportSpec): Promise<void> {
  const { error } = await attempt(spec);
  expect(error).toBe("");
  await expectSameRows(spec);
  await expectNothingLeft(lab, server, spec);
}

/** Expects that the target is either empty or a complete copy. */
export async function expectUntouchedOrComplete(spec: ImportSpec): Promise<"untouched" | "complete"> {
  const relations = await relationsOf(spec);
  if (relations.length === 0) return "untouched";
  await expectSameRows(spec);
  expect(relations).toContain("sectorwars_stack.import");
  return "complete";
}

/** Expects that a failed import's report exists and does not claim a proof. */
export async function expectBadReport(spec: ImportSpec, message: RegExp): Promise<void> {
  const report = await readReport(spec);
  expect(report.verdict).not.toBe("identical");
  expect(report.error).toMatch(message);
}

/** Options for an import in a child process. */
export interface ChildOrder {
  spec: Omit<ImportSpec, "target"> & { target: Omit<ImportSpec["target"], "preparation"> };
  denyList: string[];
  /** Milliseconds after which the process is killed by SIGKILL, from the beginning of the phase, or from its start without a phase. */
  kill?: { phase?: Phase | "swapped"; afterMs: number };
}

export interface ChildEnd {
  /** The signal or the exit code that ended it. */
  end: string;
  phases: string[];
  error: string;
  /** Resident memory, MiB: when the import began, and at its highest. */
  memory?: { before: number; peak: number };
  output: string;
}

/** Runs an import in a child process, and waits until it ends. */
export async function importInChild(
  spec: ImportSpec,
  denyList: string[],
  kill?: ChildOrder["kill"],
): Promise<ChildEnd> {
  const { preparation: _, ...target } = spec.target;
  const order: ChildOrder = { spec: { ...spec, target }, denyList, kill };
  const child = spawn(process.execPath, ["test/support/import-child.ts"], { stdio: ["pipe", "pipe", "pipe"] });
  const said: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => said.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => said.push(chunk));
  child.stdin.end(JSON.stringify(order));
  // "exit", not "close": children of the process may keep its pipes open.
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  const output = Buffer.concat(said).toString();
  const messages = output
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
  return {
    end: signal ?? String(code),
    phases: messages.flatMap((message) => message.phase ?? []),
    error: messages.find((message) => message.error)?.error ?? "",
    memory: messages.find((message) => message.memory)?.memory,
    output,
  };
}

/** Returns the text of all files of a report. */
export async function reportText(spec: ImportSpec): Promise<string> {
  const files = ["import.json", "import.html"].map((name) => readFile(join(spec.reportFolder, name), "utf8"));
  return (await Promise.all(files)).join("\n");
}
