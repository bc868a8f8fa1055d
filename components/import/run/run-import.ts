/** The import, from the preflight to the report. Each phase is a function of phases.ts. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { removeContainers } from "../../../lib/docker.ts";
import type { ImportSummary } from "../../../lib/import-summary.ts";
import { maintenance, withConnection } from "../../../lib/postgres.ts";
import { currentScope, outsideScopes, Scope } from "../../../lib/scope.ts";
import { findServerChanges, type ServerState, serverChanged } from "../compare/server-state.ts";
import { warningLines } from "../preflight/findings.ts";
import { type Preflight, preflight } from "../preflight/preflight.ts";
import { Progress } from "../progress.ts";
import { writeReport } from "../report/report.ts";
import { SafetyCopy } from "../safety-copy/safety-copy.ts";
import { helperLabel } from "../schema/schema.ts";
import { CLEARING, clearDead, clearStaging, importNames, lockServer } from "../staging/swap.ts";
import type { ImportSpec, Report } from "../types.ts";
import type { ImportHooks, ImportRun, Phase } from "./import-run.ts";
import { explain, ImportScope, NOTICING_MS } from "./import-scope.ts";
import {
  compare,
  copyRows,
  copySchema,
  copySequenceValues,
  createConstraints,
  finishSafetyCopy,
  swap,
  takeSnapshot,
} from "./phases.ts";

/** Milliseconds to wait for the clean-up after a failure or a cancellation. After that, the next run removes what is left. */
const CLEARING_MS = 4000;

/** Runs hooks outside the import's scope, so cancelling the import does not cancel them. */
const outside = ({ onPhase, onLoaded, onSwapped, ...hooks }: ImportHooks): ImportHooks => ({
  ...hooks,
  onPhase: onPhase && ((phase) => outsideScopes(() => onPhase(phase))),
  onLoaded: onLoaded && ((table) => outsideScopes(() => onLoaded(table))),
  onSwapped: onSwapped && (() => outsideScopes(() => onSwapped())),
});

/**
 * Imports the source into the target's database, or returns the summary of an earlier import. After any failure the target is as
 * it was. Closing the surrounding scope cancels the import at once: the import drops its staging database, then rejects the promise.
 * @throws {Error} with the reason and the remedy; after a failed comparison, with the differences.
 */
export async function runImport(spec: ImportSpec, hooks: ImportHooks): Promise<ImportSummary> {
  const scope = new ImportScope(spec, hooks.monitorTimeouts);
  const ownHooks = outside(hooks);
  const unregister = currentScope()?.add(() => scope.stop());
  try {
    return await scope.run(() => importUnlessDone(spec, ownHooks, scope));
  } catch (error) {
    throw scope.reason ?? error;
  } finally {
    unregister?.();
    scope.close(new Error("the import ended"));
  }
}

/** Imports with a report of every outcome, unless the target was imported before. */
async function importUnlessDone(spec: ImportSpec, hooks: ImportHooks, scope: ImportScope): Promise<ImportSummary> {
  const progress = new Progress(hooks.say);
  const startedAt = new Date().toISOString();
  const enter = async (phase: Phase, line: string) => {
    progress.phase(line);
    await hooks.onPhase?.(phase);
    scope.check();
    return progress.begin(phase);
  };

  const lockSession = await scope.openLockSession();
  const endPreflight = await enter("preflight", `checking ${spec.source.label} and the target`);
  const seen = await preflight(spec);
  endPreflight();
  if (seen.done) {
    // A run killed right after the swap did not drop the replaced database.
    await clearStaging(lockSession, spec.target.address.database);
    hooks.say(`import: ${spec.target.address.database} was imported before, at ${seen.done.finishedAt}; nothing to do`);
    return seen.done;
  }
  for (const line of warningLines(seen.findings)) hooks.say(`import: ${line}`);
  const report = beginReport(spec, scope, seen, startedAt);
  report.spans = progress.spans;
  const run: ImportRun = { spec, enter, progress, report, scope, lockSession, hooks, safetyCopy: undefined };
  try {
    // Before anything is copied, so that an unusable folder fails the import at once and not after an hour.
    run.safetyCopy = spec.safetyCopy && (await SafetyCopy.begin(spec.safetyCopy, spec.stack, hooks.say));
    const summary = await copyAndProve(run);
    report.verdict = summary.butFor === undefined ? "identical" : "selected";
    return summary;
  } catch (error) {
    const changed = await outsideScopes(() => changesOf(spec, run.serverState));
    const explained = changed.length > 0 ? serverChanged(changed) : await explain(error, scope);
    report.error = (explained as Error).message;
    scope.close(explained as Error);
    throw explained;
  } finally {
    if (report.verdict !== "identical" && report.verdict !== "selected") {
      await outsideScopes(() => clearRemains(run));
      delete report.safetyCopy;
    }
    report.seconds = progress.seconds;
    hooks.say(`import: ${report.verdict}; ${await writeReportOrExplain(spec.reportFolder, report)}`);
  }
}

/** Writes the report. A failure to write it must not hide the result of the import, so it is only mentioned. */
const writeReportOrExplain = (folder: string, report: Report): Promise<string> =>
  writeReport(folder, report).then(
    (page) => `the report is ${page}`,
    (error: Error) => `the report could not be written: ${error.message}`,
  );

/**
 * Returns the changes that the source's code made to the server outside the staging database; an empty list if the server does not
 * answer.
 */
async function changesOf({ target }: ImportSpec, before: ServerState | undefined): Promise<string[]> {
  if (before === undefined) return [];
  const find = (client: pg.Client) => findServerChanges(client, importNames(target.address.database), before);
  return withConnection(maintenance(target.address), find, { attemptMs: CLEARING_MS }).catch(() => []);
}

/** Removes what a failed import has made. If a server does not answer, the next run removes it first. */
async function clearRemains({ spec, safetyCopy }: ImportRun): Promise<void> {
  const scope = new Scope();
  const timer = setTimeout(() => scope.close(new Error("the clean-up took too long")), CLEARING_MS);
  const clearDatabase = () =>
    withConnection(
      maintenance(spec.target.address),
      async (client) => {
        await lockServer(client);
        await clearStaging(client, spec.target.address.database);
      },
      { attemptMs: CLEARING_MS, applicationName: CLEARING },
    );
  const clearDocker = async () => {
    const clear = () => removeContainers(helperLabel(spec.stack), { host: spec.dockerHost });
    await clear();
    // Docker may still be creating a container that was requested just before the failure.
    await sleep(NOTICING_MS);
    await clear();
  };
  await scope.run(() => Promise.allSettled([clearDatabase(), clearDocker(), safetyCopy?.discard()]));
  clearTimeout(timer);
}

/** Returns the report of an import that has not succeeded yet. */
function beginReport(
  spec: ImportSpec,
  scope: ImportScope,
  seen: Exclude<Preflight, { done: ImportSummary }>,
  startedAt: string,
): Report {
  return {
    verdict: "failed",
    stack: spec.stack,
    ...(spec.furtherDatabase !== undefined && { furtherDatabase: spec.furtherDatabase }),
    command: scope.command,
    source: spec.source.label,
    sourceVersion: seen.catalog.version,
    targetVersion: seen.targetVersion,
    collations: { source: seen.catalog.collation, target: seen.targetCollation },
    alembicRevision: seen.catalog.alembicRevision,
    startedAt,
    seconds: 0,
    rows: 0,
    bytes: 0,
    tables: [],
    sequences: [],
    schema: { compared: 0, differences: [] },
    skipped: seen.catalog.skipped,
    remarks: seen.remarks,
    spans: [],
  };
}

/** Copies the source into a staging database, proves that both are the same, and swaps the copy in. */
async function copyAndProve(run: ImportRun): Promise<ImportSummary> {
  await clearDead(run.lockSession);
  await clearStaging(run.lockSession, run.spec.target.address.database);
  const source = await takeSnapshot(run);
  const staged = await copySchema(run, source);
  const loaded = await copyRows(run, source, staged);
  const completed = await createConstraints(run, source, staged, loaded);
  const copied = await copySequenceValues(run, source, staged, loaded);
  const baseline = await compare(run, source, staged, { loaded, completed, copied });
  await finishSafetyCopy(run, source, staged, { loaded, completed, copied });
  return swap(run, staged, baseline);
}
