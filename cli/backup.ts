/** `./db backup`: makes and lists backups, and records that the key is safe. */
import { type Command, Option } from "@commander-js/extra-typings";
import { execInBackupContainer, readReport, runNow } from "../components/backups/backup-container.ts";
import { confirmKeyFile, keyFile } from "../components/backups/key-file.ts";
import { rangeInWords } from "../components/backups/recovery-target.ts";
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
import { humanBytes } from "../lib/human-bytes.ts";
import { namesFor } from "../lib/naming.ts";
import { exclusive } from "./support/exclusive.ts";
import { fromCaller } from "./support/paths.ts";
import { checkPortable, makePortable, type PortableOptions, portableFolderOption } from "./support/portable.ts";
import { addExamples, type Invocation, onInterrupt, onStack, steps, value } from "./support/subcommand.ts";

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
  onInterrupt(`A running backup continues in ${namesFor(stack).backups}; ./db status shows its result.`);
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
  if (run.warning) console.log(`warning: ${run.warning}`);
  return 0;
}

/** Prints the whole report as JSON. */
async function printReport(stack: string): Promise<number> {
  const report = await readReport(stack);
  const judged = { summary: summaryOf(report), range: rangeOf(report), troubles: troublesOf(report) };
  console.log(JSON.stringify({ ...report, ...judged }, null, 2));
  return 0;
}

async function beginAnew(stack: string, json: boolean): Promise<number> {
  await execInBackupContainer(stack, "init", "anew");
  console.error("The repository was created again; a full backup follows.");
  // The backup container may have started the full backup already.
  return (await readReport(stack)).running ? 0 : makeOne(stack, "full", json);
}

/** The options of `./db backup`. The actions exclude each other. */
interface BackupOptions extends PortableOptions {
  full?: true;
  diff?: true;
  list?: true;
  figures?: true;
  keyIsSafe?: true;
  beginAnew?: true;
  portable?: true;
  json: boolean;
}

async function carryOut({ stack, print }: Invocation, options: BackupOptions): Promise<number> {
  const { json } = options;
  if (options.keyIsSafe) {
    const notedIn = keyFile(stack);
    await confirmKeyFile(notedIn, new Date());
    print(`Noted in ${notedIn}.`, { notedIn });
    return 0;
  }
  if (options.portable) return makePortable(stack, options);
  if (options.check !== undefined) return checkPortable(stack, { ...options, check: options.check });
  if (options.list) return list(stack, json);
  if (options.figures) {
    process.stdout.write(figuresOf(await readReport(stack)));
    return 0;
  }
  if (options.beginAnew) return beginAnew(stack, json);
  if (options.full) return makeOne(stack, "full", json);
  if (options.diff) return makeOne(stack, "diff", json);
  return json ? printReport(stack) : makeOne(stack, "diff", false);
}

/** Configures the command `./db backup`. */
export default function backup(command: Command): void {
  const choice = exclusive("full", "diff", "list", "figures", "keyIsSafe", "beginAnew", "portable", "check");
  command
    .description(
      "Makes a differential backup now, or the first full one. Scheduled backups run by themselves; docs/recovery.md describes both. " +
        "With only --json, prints the whole report and makes no backup.",
    )
    .addOption(choice("--full", "make a full backup"))
    .addOption(choice("--diff", "make a differential backup (the default)"))
    .addOption(choice("--list", "list the backups, and the times that can be restored"))
    .addOption(choice("--figures", "print metrics in Prometheus' text format"))
    .addOption(choice("--key-is-safe", "record that a copy of the key file is in a safe place elsewhere"))
    .addOption(choice("--begin-anew", "create the repository again after it was lost, with a full backup"))
    .addOption(
      choice(
        "--portable",
        "make an age-encrypted pg_dump of every database, and of the roles; works without backups too",
      ),
    )
    .addOption(
      choice("--check <path>", "check a portable copy: decrypt it, and read all of it with pg_restore").argParser(
        fromCaller,
      ),
    )
    .addOption(portableFolderOption())
    .option(
      "--recipient <key>",
      "age's public key (default: the setting safetyCopyRecipient, or that of the identity)",
      value,
    )
    .addOption(
      new Option(
        "--identity <file>",
        "age's private key (default: the setting safetyCopyIdentity, or sectorwars/age-identity.txt in XDG_CONFIG_HOME or ~/.config)",
      ).argParser(fromCaller),
    )
    .action(onStack((invocation, options) => carryOut(invocation, { ...options, json: invocation.json })));
  addExamples(command, {
    backup: "make a backup now",
    "backup --list": "list the backups, and the times that can be restored",
    "backup --portable": "make a copy for other machines",
  });
}
