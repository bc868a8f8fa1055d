/** `./db restore`: the database as it was at some moment, and back again. */
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
  restoreToScratch,
  retainedFolders,
  tidy,
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

/** A moment in this machine's time zone and in UTC: whoever wrote a time sees how it was understood. */
function inBothZones(seconds: number): string {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const here = new Date(seconds * 1000).toLocaleString("sv-SE", { timeZone: zone, timeZoneName: "short" });
  return zone === "UTC" ? time(seconds) : `${here} (${zone}), ${time(seconds)}`;
}

const inWords = (target: RecoveryTarget, way: RestorePlan) =>
  target.kind === "time"
    ? inBothZones(target.at)
    : target.kind === "latest"
      ? "the last change"
      : `the backup ${way.backup.label}`;

/** How somebody wants to be told. */
interface Telling {
  /** Words on the way; beside the result where that is for machines. */
  say: (line: string) => void;
  json: boolean;
  /** Whether the question before an exchange is answered already. */
  yes?: true;
}

function sayKept({ folder, until, undo: command }: RetainedData, { say }: Telling) {
  say(`The data as it was before is kept in the volume until ${until} at least, as ${folder}.`);
  say(`Back to it:  ${command}`);
}

/** Where the server or the archive is out of order, what reached the repository before can still be had back. */
async function settleFor(target: RecoveryTarget, outputs: StackOutputs, { say }: Telling): Promise<bigint> {
  const { archivedUntil } = await readReport(outputs.stack);
  const written = await flushWal(outputs).catch((error: Error) => {
    if (target.kind !== "time" || target.at > archivedUntil) throw error;
    return undefined;
  });
  if (written === undefined) {
    say(`Note:  what was written after ${time(archivedUntil)} may not be in the repository; the kept data has it.`);
  }
  return written ?? 0n;
}

async function restore(
  outputs: StackOutputs,
  text: string,
  options: RestoreOptions,
  telling: Telling,
): Promise<number> {
  const { stack } = outputs;
  const { say, json } = telling;
  const { dryRun, unsound: takesUnsound = false } = options;
  const target = parseRecoveryTarget(text, new Date());
  refuseForeign(await readReport(stack));
  if (!dryRun) await refuseBusy(outputs);
  const written = dryRun || target.kind === "backup" ? 0n : await settleFor(target, outputs, telling);
  const way = restorePlanFor(target, await readReport(stack), takesUnsound);
  const { label } = way.backup;
  const to = target.kind === "time" ? new Date(target.at * 1000).toISOString() : text;
  say(`To:    ${inWords(target, way)}`);
  say(
    `From:  ${label}, of ${time(way.backup.timestamp.stop)}${target.kind === "backup" ? "" : ", and the changes archived since"}`,
  );
  if (dryRun) {
    if (json) console.log(JSON.stringify({ to, backup: label, timeline: way.timeline, dryRun: true }, null, 2));
    say("A dry run: nothing was changed.");
    return 0;
  }
  const consequence =
    `This replaces all databases of ${stack}, with their snapshots, with their state at that time; connections end for some seconds. ` +
    "The present data is retained.";
  if (!(await confirm(telling.yes, consequence))) return 1;
  const now = new Date();
  for (const folder of await tidy(outputs, now)) say(`Removed ${folder}, which is no longer needed.`);
  checkRoom(way, await readReport(stack));
  const stamp = stampOf(now);
  say("Restoring beside the running database, and checking it ...");
  const restored = await restoreToScratch(outputs, way, stamp, { unsound: takesUnsound, say: steps() });
  if (target.kind === "latest" && restored.reached < written) {
    await tidy(outputs, now);
    throw new Error("Nothing was changed: the archive ends before the last change. Its newest files are missing.");
  }
  const { tables, rows, folder, last, unsound } = restored;
  // How far it really came: a clock that ran ahead ends a recovery before its time.
  if (last) say(`The last change in it is of ${last}.`);
  const sound =
    unsound.length === 0
      ? "every table and index is sound"
      : `UNSOUND: ${unsound.join("; ")}. REINDEX mends what indexes lack`;
  say(`${tables} tables, ${rows.toLocaleString("en")} rows; ${sound}.`);
  await mayExchange(outputs).catch(async (error: Error) => {
    await outsideScopes(() => forget(outputs, folder));
    throw new Error(`Nothing was changed. ${error.message}`);
  });
  await exchangeAndTell(outputs, folder, stamp, "Done.", telling);
  if (json)
    console.log(
      JSON.stringify({ to, backup: label, tables, rows, last, unsound, kept: retainedDataOf(stack, stamp) }, null, 2),
    );
  return 0;
}

/** @throws {Error} where it was stopped, or somebody would be cut off. */
async function mayExchange(outputs: StackOutputs): Promise<void> {
  await refuseBusy(outputs);
  currentScope()?.check();
}

/** From here on it is not stopped any more: whoever tries is told of the way back all the same. */
function exchangeAndTell(
  outputs: StackOutputs,
  folder: string,
  stamp: string,
  done: string,
  telling: Telling,
): Promise<void> {
  const { stack } = outputs;
  telling.say("Exchanging ...");
  return outsideScopes(async () => {
    const kept = retainedDataOf(stack, stamp);
    await exchange(outputs, folder, kept.folder).catch((error: Error) => {
      throw new Error(`${error.message}\nIf the other data is in place, the former is kept: ${kept.undo}`);
    });
    telling.say(done);
    // Whatever becomes of the backups, the way back is known first.
    sayKept(kept, telling);
    await warnOfRevision(outputs, telling.say).catch((error: Error) => telling.say(error.message));
    if (!(await takesBackups(stack))) return;
    await recordTimeline(stack);
    telling.say("A full backup of it follows by itself.");
  });
}

/** The folder of former data that a stamp names. */
async function keptFolder(outputs: StackOutputs, stamp: string): Promise<string> {
  const all = retainedDataIn(outputs.stack, await retainedFolders(outputs));
  const kept = all.find((one) => one.stamp === stamp);
  if (kept) return kept.folder;
  const names = all.map((one) => one.stamp).join(", ");
  throw new Error(`There is no data kept of ${stamp}. ${names ? `There is: ${names}` : "None is kept at all."}`);
}

async function undo(outputs: StackOutputs, stamp: string, telling: Telling): Promise<number> {
  const { stack } = outputs;
  const folder = await keptFolder(outputs, stamp);
  const consequence =
    `This replaces all databases of ${stack}, with their snapshots, with the data retained at ${stamp}; connections end for some seconds. ` +
    "The present data is retained.";
  if (!(await confirm(telling.yes, consequence))) return 1;
  const now = stampOf(new Date());
  await mayExchange(outputs);
  await exchangeAndTell(outputs, folder, now, "The data is as it was before the restore.", telling);
  if (telling.json) console.log(JSON.stringify({ undone: stamp, kept: retainedDataOf(stack, now) }, null, 2));
  return 0;
}

async function forgetKept(outputs: StackOutputs, stamp: string, { say, json, yes }: Telling): Promise<number> {
  const folder = await keptFolder(outputs, stamp);
  if (!(await confirm(yes, `This deletes the data that was kept of ${stamp} (${folder}) for good.`))) return 1;
  await forget(outputs, folder);
  if (json) console.log(JSON.stringify({ forgotten: folder }, null, 2));
  say(`Removed ${folder}.`);
  return 0;
}

/** What a restore that was killed in its exchange has left to do. */
async function finish(outputs: StackOutputs, telling: Telling): Promise<number> {
  const { stack } = outputs;
  const finished = await finishExchange(outputs);
  if (finished?.exchanged && (await takesBackups(stack))) await recordTimeline(stack);
  const kept = finished?.exchanged ? retainedDataIn(stack, [finished.kept])[0] : undefined;
  if (telling.json) console.log(JSON.stringify({ finished: kept !== undefined, kept }, null, 2));
  if (kept) {
    telling.say("The exchange that a killed restore began is done.");
    sayKept(kept, telling);
  } else
    telling.say(finished ? "The exchange was not carried out: nothing was changed." : "There is nothing to finish.");
  return 0;
}

/** What the user asks for: one of the first four, and how. */
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
  // Words on the way would be in the way of a result for machines.
  const telling: Telling = { say: json ? console.error : console.log, json, yes: options.yes };
  const { to, undo: undoStamp, forget: forgetStamp } = options;
  const outputs = await readStack(stack);
  if (undoStamp !== undefined) return untilCancelled(() => undo(outputs, undoStamp, telling));
  if (options.finish) return finish(outputs, telling);
  if (forgetStamp !== undefined) return forgetKept(outputs, forgetStamp, telling);
  if (to !== undefined) return untilCancelled(() => restore(outputs, to, options, telling));
  throw new UsageError(`Say what to go back to, with --to. ${rangeInWords(await readReport(stack))}`);
}

/** Adds what `./db restore` takes and does to its command. */
export default function restoreCommand(command: Command): void {
  const wish = exclusive("to", "undo", "forget", "finish");
  command
    .description(
      "Brings the server, with all its databases, back to what it was at a moment: restored beside the running one, checked (every table, " +
        "every index), then exchanged. The former data is kept, with the command that brings it back. Ctrl-C before the exchange changes " +
        "nothing.",
    )
    .addOption(
      wish("--to <when>", 'a time ("2026-11-22 10:00 UTC", "10 minutes ago"), latest, or a backup\'s label').argParser(
        value,
      ),
    )
    .addOption(wish("--undo <stamp>", "go back to the data that a restore has kept").argParser(value))
    .addOption(
      wish(
        "--forget <stamp>",
        "remove data that a restore has kept (status lists it), before its week is over",
      ).argParser(value),
    )
    .addOption(wish("--finish", "end an exchange in which a restore was killed; script/up does it, too"))
    .option("--dry-run", "tell how the time is understood and what would be used, and change nothing")
    .option(
      "--unsound",
      "exchange also where the check finds damage, which may be older than the moment that is wanted",
    )
    .addOption(yesOption())
    .action(onStack(carryOut));
  addExamples(command, {
    'restore --to "10 minutes ago" --dry-run': "how the time is understood",
    'restore --to "2026-11-22 10:00"': "in this machine's time zone",
    'restore --to "yesterday 18:00" --yes': "without a question, for scripts",
    "restore --to latest": "the newest state, beside a server that does not start",
    "restore --undo 20261123T101500Z": "back to what was there before a restore",
  });
}
