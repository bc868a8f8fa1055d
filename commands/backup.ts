/** `npm run backup`: a backup now, what there is, and what has to do with the key. */
import { inBackups, readReport, runNow } from "../components/backups/console.ts";
import { confirmKeyFile, keyFile } from "../components/backups/key-file.ts";
import {
  backupsIn,
  damagedIn,
  figuresOf,
  nothingToRestore,
  rangeOf,
  summaryOf,
  time,
  troublesOf,
} from "../components/backups/report.ts";
import { rangeInWords } from "../components/backups/target.ts";
import { humanBytes } from "../components/import/progress.ts";
import { namesFor } from "../components/server/naming.ts";
import { main, oneOf, steps, tellWhoLeaves } from "./cli.ts";
import { checkPortable, makePortable, PORTABLE_HELP, PORTABLE_OPTIONS } from "./portable.ts";

async function list(stack: string, json: boolean): Promise<number> {
  const report = await readReport(stack);
  const backups = backupsIn(report);
  const nothing = nothingToRestore(report);
  const damaged = damagedIn(report);
  if (json) {
    console.log(
      JSON.stringify({ backups, damaged, range: rangeOf(report) ?? null, nothing: nothing ?? null }, null, 2),
    );
    return nothing ? 1 : 0;
  }
  const all = [...backups, ...damaged].sort((a, b) => a.timestamp.stop - b.timestamp.stop);
  for (const { label, type, timestamp, info, error } of all) {
    console.log(
      `  ${label.padEnd(35)} ${type.padEnd(5)} ${time(timestamp.stop)}  ${humanBytes(info.size).padStart(9)}, ` +
        `${humanBytes(info.repository.delta)} in the repository${error === true ? "  DAMAGED PAGES" : ""}`,
    );
  }
  if (nothing) throw new Error(nothing);
  console.log(rangeInWords(report));
  return 0;
}

async function makeOne(stack: string, kind: "full" | "diff", json: boolean): Promise<number> {
  tellWhoLeaves(`The backup goes on in ${namesFor(stack).backups}; npm run status tells how it ends.`);
  const run = await runNow(stack, kind, steps());
  if (json) {
    console.log(JSON.stringify(run, null, 2));
    return run.result === "ok" ? 0 : 1;
  }
  if (run.result !== "ok") {
    console.error(`error: ${run.result === "damaged" ? "the data is damaged" : "the backup failed"}: ${run.error}`);
    return 1;
  }
  console.log(`${run.label}: ${humanBytes(run.bytes ?? 0)} in ${run.seconds} s`);
  if (run.warning) console.log(`Beside that: ${run.warning}`);
  return 0;
}

/** All that is known, for machines. */
async function tellAll(stack: string): Promise<number> {
  const report = await readReport(stack);
  const judged = { summary: summaryOf(report), range: rangeOf(report), troubles: troublesOf(report) };
  console.log(JSON.stringify({ ...report, ...judged }, null, 2));
  return 0;
}

async function beginAnew(stack: string, json: boolean): Promise<number> {
  await inBackups(stack, "init", "anew");
  console.error("The repository is begun again; a full backup follows.");
  // It may have begun by itself already.
  return (await readReport(stack)).running ? 0 : makeOne(stack, "full", json);
}

const WISHES = ["full", "diff", "list", "figures", "key-is-safe", "begin-anew", "portable", "check"] as const;

await main({
  help: `
usage: npm run backup [-- --full | --diff | --list | --figures | --key-is-safe | --begin-anew] [--json] [--stack NAME]
       npm run backup -- --portable [--folder PATH] [--recipient KEY] | --check PATH [--identity FILE] [--json] [--stack NAME]

Makes a differential backup now, or the first full one. Backups on schedule need nobody; docs/recovery.md tells of both.

      --full         a full backup
      --diff         a differential one, which is also what is made without any option
      --list         the backups there are, and which times can be restored
      --json         for machines: the result of what was asked for; alone, all that is known, and no backup is made
      --figures      figures for monitoring, in Prometheus' text format
      --key-is-safe  notes that a copy of the key file is in a safe place elsewhere
      --begin-anew   after the repository was lost: begins it again, with a full backup
${PORTABLE_HELP}`,
  options: {
    full: { type: "boolean" },
    diff: { type: "boolean" },
    list: { type: "boolean" },
    json: { type: "boolean" },
    figures: { type: "boolean" },
    "key-is-safe": { type: "boolean" },
    "begin-anew": { type: "boolean" },
    ...PORTABLE_OPTIONS,
  },
  async run({ stack, values }) {
    const json = values.json === true;
    switch (oneOf(values, WISHES)) {
      case "key-is-safe":
        await confirmKeyFile(keyFile(stack), new Date());
        console.log(`Noted in ${keyFile(stack)}.`);
        return 0;
      case "portable":
        return makePortable(stack, values);
      case "check":
        return checkPortable(stack, values);
      case "list":
        return list(stack, json);
      case "figures":
        process.stdout.write(figuresOf(await readReport(stack)));
        return 0;
      case "begin-anew":
        return beginAnew(stack, json);
      case "full":
        return makeOne(stack, "full", json);
      case "diff":
        return makeOne(stack, "diff", json);
      default:
        return json ? tellAll(stack) : makeOne(stack, "diff", false);
    }
  },
});
