/** `./db restore`: restores the server to an earlier time, and undoes a restore. */
import type { Command } from "@commander-js/extra-typings";
import { readReport, takesBackups } from "../components/backups/backup-container.ts";
import {
  parseRecoveryTarget,
  type RecoveryTarget,
  type RestorePlan,
  rangeInWords,
  refuseForeign,
  restorePlanFor,
} from "../components/backups/recovery-target.ts";
import { time } from "../components/backups/report.ts";
import {
  checkRoom,
  exchange,
  finishExchange,
  flushWal,
  forget,
  recordTimeline,
  refuseBusy,
  removeLeftovers,
  restoreToScratch,
  retainedFolders,
} from "../components/backups/restore.ts";
import { type RetainedData, retainedDataIn, retainedDataOf, stampOf } from "../components/backups/retained-data.ts";
import { untilCancelled } from "../lib/cancellation.ts";
import { currentScope, outsideScopes } from "../lib/scope.ts";
import { readStack, type StackOutputs } from "../lib/stack.ts";
import { confirm, yesOption } from "./support/confirm.ts";
import { UsageError } from "./support/errors.ts";
import { exclusive } from "./support/exclusive.ts";
import { warnOfRevision } from "./support/revision.ts";
import { addExamples, type Invocation, onStack, steps, value } from "./support/subcommand.ts";

/** Formats a time in this machine's time zone and in UTC, so that the user sees how it was understood. */
function inBothZones(seconds: number): string {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const here = new Date(seconds * 1000).toLocaleString("sv-SE", { timeZone: zone, timeZoneName: "short" });
  return zone === "UTC" ? time(seconds) : `${here} (${zone}), ${time(seconds)}`;
}

const inWords = (target: RecoveryTarget, plan: RestorePlan) =>
  target.kind === "time"
    ? inBothZones(target.at)
    : target.kind === "latest"
      ? "the last change"
      : `the backup ${plan.backup.label}`;

/** Where messages and results go. */
interface Output {
  /** Prints a message; to standard error if the result is JSON. */
  say: (line: string) => void;
  json: boolean;
  /** Whether the user has already confirmed. */
  yes?: true;
}

function reportRetained({ folder, until, undo: command }: RetainedData, { say }: Output) {
  say(`The former data is retained in the volume as ${folder}, at least until ${until}.`);
  say(`To restore it:  ${command}`);
}

/** Flushes WAL to the archive. If server or archiving fails, times that are already in the repository can still be restored. */
async function flushWalFor(target: RecoveryTarget, outputs: StackOutputs, { say }: Output): Promise<bigint> {
  const { archivedUntil } = await readReport(outputs.stack);
  const written = await flushWal(outputs).catch((error: Error) => {
    if (target.kind !== "time" || target.at > archivedUntil) throw error;
    return undefined;
  });
  if (written === undefined) {
    say(
      `Note:  changes after ${time(archivedUntil)} may be missing in the repository; the retained data contains them.`,
    );
  }
  return written ?? 0n;
}

async function restore(outputs: StackOutputs, text: string, options: RestoreOptions, output: Output): Promise<number> {
  const { stack } = outputs;
  const { say, json } = output;
  const { dryRun, unsound: takesUnsound = false } = options;
  const target = parseRecoveryTarget(text, new Date());
  refuseForeign(await readReport(stack));
  if (!dryRun) await refuseBusy(outputs);
  const written = dryRun || target.kind === "backup" ? 0n : await flushWalFor(target, outputs, output);
  const plan = restorePlanFor(target, await readReport(stack), takesUnsound);
  const { label } = plan.backup;
  const to = target.kind === "time" ? new Date(target.at * 1000).toISOString() : text;
  say(`To:    ${inWords(target, plan)}`);
  say(
    `From:  ${label}, of ${time(plan.backup.timestamp.stop)}${target.kind === "backup" ? "" : ", and the changes archived since"}`,
  );
  if (dryRun) {
    if (json) console.log(JSON.stringify({ to, backup: label, timeline: plan.timeline, dryRun: true }, null, 2));
    say("Dry run: nothing was changed.");
    return 0;
  }
  const consequence =
    `This replaces all databases of ${stack}, with their snapshots, by their state at that time, and ends all connections. ` +
    "The current data is retained.";
  if (!(await confirm(output.yes, consequence))) return 1;
  const now = new Date();
  for (const folder of await removeLeftovers(outputs, now)) say(`Removed ${folder}, which is no longer needed.`);
  checkRoom(plan, await readReport(stack));
  const stamp = stampOf(now);
  say("Restoring into a scratch server, and checking the data ...");
  const restored = await restoreToScratch(outputs, plan, stamp, { unsound: takesUnsound, say: steps() });
  if (target.kind === "latest" && restored.reached < written) {
    await removeLeftovers(outputs, now);
    throw new Error("Nothing was changed: the archive ends before the last change. Its newest WAL files are missing.");
  }
  const { tables, rows, folder, last, damage } = restored;
  // Show the last transaction that was recovered: a clock that was ahead ends a recovery too early.
  if (last) say(`The last change in it was at ${last}.`);
  const sound =
    damage.length === 0 ? "all tables and indexes are sound" : `UNSOUND: ${damage.join("; ")}. REINDEX repairs indexes`;
  say(`${tables} tables, ${rows.toLocaleString("en")} rows; ${sound}.`);
  await assertMayExchange(outputs).catch(async (error: Error) => {
    await outsideScopes(() => forget(outputs, folder));
    throw new Error(`Nothing was changed. ${error.message}`);
  });
  await exchangeAndReport(outputs, folder, stamp, "Done.", output);
  if (json)
    console.log(
      JSON.stringify(
        { to, backup: label, tables, rows, last, unsound: damage, kept: retainedDataOf(stack, stamp) },
        null,
        2,
      ),
    );
  return 0;
}

/** @throws {Error} if the restore was cancelled, or if work that must not be interrupted runs on the server. */
async function assertMayExchange(outputs: StackOutputs): Promise<void> {
  await refuseBusy(outputs);
  currentScope()?.check();
}

/** Exchanges the data and reports how to undo that. Cannot be cancelled, so that the user always gets the command for the undo. */
function exchangeAndReport(
  outputs: StackOutputs,
  folder: string,
  stamp: string,
  done: string,
  output: Output,
): Promise<void> {
  const { stack } = outputs;
  output.say("Exchanging the data ...");
  return outsideScopes(async () => {
    const kept = retainedDataOf(stack, stamp);
    await exchange(outputs, folder, kept.folder).catch((error: Error) => {
      throw new Error(
        `${error.message}\nIf the exchange was completed, the former data is retained. To restore it: ${kept.undo}`,
      );
    });
    output.say(done);
    // Report how to undo the restore before anything about the backups can fail.
    reportRetained(kept, output);
    await warnOfRevision(outputs, output.say).catch((error: Error) => output.say(error.message));
    if (!(await takesBackups(stack))) return;
    await recordTimeline(stack);
    output.say("A full backup of it starts automatically.");
  });
}

/** Returns the folder of the retained data with this stamp. */
async function retainedFolder(outputs: StackOutputs, stamp: string): Promise<string> {
  const all = retainedDataIn(outputs.stack, await retainedFolders(outputs));
  const kept = all.find((one) => one.stamp === stamp);
  if (kept) return kept.folder;
  const names = all.map((one) => one.stamp).join(", ");
  throw new Error(`There is no retained data ${stamp}. ${names ? `There is: ${names}` : "No data is retained."}`);
}

async function undo(outputs: StackOutputs, stamp: string, output: Output): Promise<number> {
  const { stack } = outputs;
  const folder = await retainedFolder(outputs, stamp);
  const consequence =
    `This replaces all databases of ${stack}, with their snapshots, by the retained data ${stamp}, and ends all connections. ` +
    "The current data is retained.";
  if (!(await confirm(output.yes, consequence))) return 1;
  const now = stampOf(new Date());
  await assertMayExchange(outputs);
  await exchangeAndReport(outputs, folder, now, "The data from before the restore is back.", output);
  if (output.json) console.log(JSON.stringify({ undone: stamp, kept: retainedDataOf(stack, now) }, null, 2));
  return 0;
}

async function deleteRetained(outputs: StackOutputs, stamp: string, { say, json, yes }: Output): Promise<number> {
  const folder = await retainedFolder(outputs, stamp);
  if (!(await confirm(yes, `This permanently deletes the retained data ${stamp} (${folder}).`))) return 1;
  await forget(outputs, folder);
  if (json) console.log(JSON.stringify({ forgotten: folder }, null, 2));
  say(`Removed ${folder}.`);
  return 0;
}

/** Completes the exchange of a killed restore. */
async function finish(outputs: StackOutputs, output: Output): Promise<number> {
  const { stack } = outputs;
  const finished = await finishExchange(outputs);
  if (finished?.exchanged && (await takesBackups(stack))) await recordTimeline(stack);
  const kept = finished?.exchanged ? retainedDataIn(stack, [finished.kept])[0] : undefined;
  if (output.json) console.log(JSON.stringify({ finished: kept !== undefined, kept }, null, 2));
  if (kept) {
    output.say("Completed the exchange of a killed restore.");
    reportRetained(kept, output);
  } else
    output.say(finished ? "The exchange was not carried out; nothing was changed." : "There is nothing to finish.");
  return 0;
}

/** The options of `./db restore`. The first four exclude each other. */
interface RestoreOptions {
  to?: string;
  undo?: string;
  forget?: string;
  finish?: true;
  dryRun?: true;
  unsound?: true;
  yes?: true;
}

async function carryOut({ stack, json }: Invocation, options: RestoreOptions): Promise<number> {
  // With --json, standard output must contain only the result.
  const output: Output = { say: json ? console.error : console.log, json, yes: options.yes };
  const { to, undo: undoStamp, forget: forgetStamp } = options;
  const outputs = await readStack(stack);
  if (undoStamp !== undefined) return untilCancelled(() => undo(outputs, undoStamp, output));
  if (options.finish) return finish(outputs, output);
  if (forgetStamp !== undefined) return deleteRetained(outputs, forgetStamp, output);
  if (to !== undefined) return untilCancelled(() => restore(outputs, to, options, output));
  throw new UsageError(`Name the recovery target with --to. ${rangeInWords(await readReport(stack))}`);
}

/** Configures the command `./db restore`. */
export default function restoreCommand(command: Command): void {
  const choice = exclusive("to", "undo", "forget", "finish");
  command
    .description(
      "Restores the server, with all its databases, to an earlier time: into a scratch server first, where every table and index is " +
        "checked, then it exchanges the data. The former data is retained, and the output shows the command that restores it. Ctrl-C " +
        "before the exchange changes nothing.",
    )
    .addOption(
      choice(
        "--to <when>",
        'a time ("2026-11-22 10:00 UTC", "10 minutes ago"), latest, or a backup\'s label',
      ).argParser(value),
    )
    .addOption(choice("--undo <stamp>", "restore the data that a restore has retained").argParser(value))
    .addOption(
      choice("--forget <stamp>", "delete retained data (status lists it) before its week is over").argParser(value),
    )
    .addOption(choice("--finish", "complete the exchange of a killed restore; script/up does this too"))
    .option("--dry-run", "show how the time is understood and which backup would be used; change nothing")
    .option("--unsound", "accept damage that the check finds, which may be older than the recovery target")
    .addOption(yesOption())
    .action(onStack(carryOut));
  addExamples(command, {
    'restore --to "10 minutes ago" --dry-run': "show how the time is understood",
    'restore --to "2026-11-22 10:00"': "restore to a time in this machine's time zone",
    'restore --to "yesterday 18:00" --yes': "restore without a question, for scripts",
    "restore --to latest": "restore the newest state, for a server that does not start",
    "restore --undo 20261123T101500Z": "restore the data from before a restore",
  });
}
