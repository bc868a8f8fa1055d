/** `npm run backup`: a backup now, what there is, and what has to do with the key. */
import { inBackups, readReport, runNow } from "../components/backups/console.ts";
import { confirmKeyFile, keyFile } from "../components/backups/key-file.ts";
import { backupsIn, figuresOf, rangeOf, summaryOf, time, troublesOf } from "../components/backups/report.ts";
import { rangeInWords } from "../components/backups/target.ts";
import { humanBytes } from "../components/import/progress.ts";
import { main } from "./cli.ts";
import { checkPortable, makePortable, PORTABLE_HELP, PORTABLE_OPTIONS } from "./portable.ts";

async function list(stack: string): Promise<number> {
  const report = await readReport(stack);
  for (const { label, type, timestamp, info } of backupsIn(report)) {
    console.log(
      `  ${label.padEnd(35)} ${type.padEnd(5)} ${time(timestamp.stop)}  ${humanBytes(info.size).padStart(9)}, ` +
        `${humanBytes(info.repository.delta)} in the repository`,
    );
  }
  console.log(rangeInWords(report));
  return 0;
}

async function makeOne(stack: string, kind: "full" | "diff"): Promise<number> {
  console.log("A backup is being made ...");
  const run = await runNow(stack, kind);
  if (run.result === "failed") {
    console.error(`error: the backup failed: ${run.error}`);
    return 1;
  }
  console.log(`${run.label}: ${humanBytes(run.bytes ?? 0)} in ${run.seconds} s`);
  if (run.warning) console.log(`Beside that: ${run.warning}`);
  return 0;
}

await main({
  help: `
usage: npm run backup [-- --full | --list | --json | --figures | --key-is-safe | --begin-anew] [--stack NAME]
       npm run backup -- --portable [--folder PATH] [--recipient KEY] | --check PATH [--identity FILE] [--json] [--stack NAME]

Makes a differential backup now, or the first full one. Backups on schedule need nobody; docs/recovery.md tells of both.

      --full         a full backup
      --list         the backups there are, and which times can be restored
      --json         all that is known, for machines
      --figures      figures for monitoring, in Prometheus' text format
      --key-is-safe  notes that a copy of the key file is in a safe place elsewhere
      --begin-anew   after the repository was lost: begins it again, with a full backup
${PORTABLE_HELP}`,
  options: {
    full: { type: "boolean" },
    list: { type: "boolean" },
    json: { type: "boolean" },
    figures: { type: "boolean" },
    "key-is-safe": { type: "boolean" },
    "begin-anew": { type: "boolean" },
    ...PORTABLE_OPTIONS,
  },
  async run({ stack, values }) {
    if (values["key-is-safe"]) {
      await confirmKeyFile(keyFile(stack), new Date());
      console.log(`Noted in ${keyFile(stack)}.`);
      return 0;
    }
    if (values.portable) return makePortable(stack, values);
    if (values.check) return checkPortable(stack, values);
    if (values.list) return list(stack);
    if (values.json || values.figures) {
      const report = await readReport(stack);
      if (values.figures) process.stdout.write(figuresOf(report));
      else {
        const judged = { summary: summaryOf(report), range: rangeOf(report), troubles: troublesOf(report) };
        console.log(JSON.stringify({ ...report, ...judged }, null, 2));
      }
      return 0;
    }
    if (values["begin-anew"]) {
      await inBackups(stack, "init", "anew");
      console.log("The repository is begun again; a full backup follows.");
      // It may have begun by itself already.
      return (await readReport(stack)).running ? 0 : makeOne(stack, "full");
    }
    return makeOne(stack, values.full ? "full" : "diff");
  },
});
