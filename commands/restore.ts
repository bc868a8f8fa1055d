/** `npm run restore`: the database as it was at some moment, and back again. */
import { createInterface } from "node:readline/promises";
import { readReport, takesBackups } from "../components/backups/console.ts";
import { time } from "../components/backups/report.ts";
import {
  checkRoom,
  exchange,
  goOn,
  KEPT_DAYS,
  keptFolders,
  momentOf,
  restoreAside,
  settle,
  stampOf,
  tidy,
} from "../components/backups/restore.ts";
import {
  parseTarget,
  rangeInWords,
  refuseForeign,
  type Target,
  type Way,
  wayTo,
} from "../components/backups/target.ts";
import { readStack, type StackOutputs } from "../lib/stack.ts";
import { main } from "./cli.ts";

/** A moment in this machine's time zone and in UTC: whoever wrote a time sees how it was understood. */
function inBothZones(seconds: number): string {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const here = new Date(seconds * 1000).toLocaleString("sv-SE", { timeZone: zone, timeZoneName: "short" });
  return zone === "UTC" ? time(seconds) : `${here} (${zone}), ${time(seconds)}`;
}

const inWords = (target: Target, way: Way) =>
  target.kind === "time"
    ? inBothZones(target.at)
    : target.kind === "latest"
      ? "the last change"
      : `the backup ${way.backup.label}`;

async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return true;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(`${question} [y/N] `);
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

const undoCommand = (stack: string, stamp: string) => `npm run restore -- --undo ${stamp} --stack ${stack}`;

function sayKept(stack: string, stamp: string) {
  const until = new Date((momentOf(stamp)?.getTime() ?? Date.now()) + KEPT_DAYS * 86_400_000);
  console.log(
    `The data as it was before is kept in the volume until ${until.toISOString().slice(0, 10)} at least, as pgdata.before-${stamp}.`,
  );
  console.log(`Back to it:  ${undoCommand(stack, stamp)}`);
}

/** Where the server or the archive is out of order, what reached the repository before can still be had back. */
async function settleFor(target: Target, outputs: StackOutputs): Promise<bigint> {
  const { archivedUntil } = await readReport(outputs.stack);
  const written = await settle(outputs).catch((error: Error) => {
    if (target.kind !== "time" || target.at > archivedUntil) throw error;
    return undefined;
  });
  if (written === undefined) {
    console.log(
      `Note:  what was written after ${time(archivedUntil)} may not be in the repository; the kept data has it.`,
    );
  }
  return written ?? 0n;
}

async function restore(
  outputs: StackOutputs,
  text: string,
  values: { dryRun: boolean; yes: boolean },
): Promise<number> {
  const { stack } = outputs;
  const target = parseTarget(text, new Date());
  refuseForeign(await readReport(stack));
  const written = values.dryRun || target.kind === "backup" ? 0n : await settleFor(target, outputs);
  const way = wayTo(target, await readReport(stack));
  console.log(`To:    ${inWords(target, way)}`);
  console.log(
    `From:  ${way.backup.label}, of ${time(way.backup.timestamp.stop)}${target.kind === "backup" ? "" : ", and the changes archived since"}`,
  );
  if (values.dryRun) {
    console.log("A dry run: nothing was changed.");
    return 0;
  }
  const question = `The database of ${stack} is replaced by its state of then; connections end for some seconds. Go on?`;
  if (!values.yes && !(await confirm(question))) return 1;
  const now = new Date();
  for (const folder of await tidy(outputs, now)) console.log(`Removed ${folder}, which is no longer needed.`);
  checkRoom(way, await readReport(stack));
  const stamp = stampOf(now);
  console.log("Restoring beside the running database, and checking it ...");
  const restored = await restoreAside(outputs, way, stamp);
  if (target.kind === "latest" && restored.reached < written) {
    await tidy(outputs, now);
    throw new Error("Nothing was changed: the archive ends before the last change. Its newest files are missing.");
  }
  console.log(
    `${restored.tables} tables, ${restored.rows.toLocaleString("en")} rows; every table and index is sound. Exchanging ...`,
  );
  await exchange(outputs, restored.folder, `pgdata.before-${stamp}`).catch((error: Error) => {
    throw new Error(
      `${error.message}\nIf the restored data is in place, the former is kept: ${undoCommand(stack, stamp)}`,
    );
  });
  console.log("Done.");
  // Whatever becomes of the backups, the way back is known first.
  sayKept(stack, stamp);
  await goOn(stack);
  console.log("A full backup of it follows by itself.");
  return 0;
}

async function undo(outputs: StackOutputs, stamp: string): Promise<number> {
  const folder = `pgdata.before-${stamp}`;
  if (momentOf(stamp) === undefined || !(await keptFolders(outputs)).includes(folder)) {
    const kept = (await keptFolders(outputs)).filter((name) => name.startsWith("pgdata.before-"));
    throw new Error(
      `There is no data kept of ${stamp}. ${kept.length > 0 ? `There is: ${kept.map((name) => name.slice(14)).join(", ")}` : "None is kept at all."}`,
    );
  }
  const now = stampOf(new Date());
  await exchange(outputs, folder, `pgdata.before-${now}`);
  console.log("The data is as it was before the restore.");
  sayKept(outputs.stack, now);
  if (await takesBackups(outputs.stack)) await goOn(outputs.stack);
  return 0;
}

await main({
  help: `
usage: npm run restore -- --to TIME|latest|LABEL [--dry-run] [--yes] [--stack NAME]
       npm run restore -- --undo STAMP [--stack NAME]

Brings the database back to what it was at a moment: restored beside the running one, checked (every table, every index),
then exchanged. The former data is kept, with the command that brings it back.

      --to WHEN     a time ("2026-11-22 10:00", "2026-11-22 10:00 UTC", "10 minutes ago", "yesterday 18:00"), latest, or a
                    backup's label (npm run backup -- --list)
      --dry-run     tells how the time is understood and what would be used, and changes nothing
      --undo STAMP  back to the data that a restore has kept
      --yes         asks nothing`,
  options: {
    to: { type: "string" },
    undo: { type: "string" },
    "dry-run": { type: "boolean" },
    yes: { type: "boolean" },
  },
  async run({ stack, values }) {
    const outputs = await readStack(stack);
    if (typeof values.undo === "string") return undo(outputs, values.undo);
    if (typeof values.to !== "string") {
      throw new Error(`Say what to go back to, with --to. ${rangeInWords(await readReport(stack))}`);
    }
    return restore(outputs, values.to, { dryRun: values["dry-run"] === true, yes: values.yes === true });
  },
});
