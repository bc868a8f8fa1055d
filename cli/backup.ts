/** `./db backup`: a backup now, what there is, and what has to do with the key. */
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
import { addExamples, type Invocation, onStack, steps, tellWhoLeaves, value } from "./support/subcommand.ts";

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
  tellWhoLeaves(`A backup that has begun goes on in ${namesFor(stack).backups}; ./db status tells how it ends.`);
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
  await execInBackupContainer(stack, "init", "anew");
  console.error("The repository is begun again; a full backup follows.");
  // It may have begun by itself already.
  return (await readReport(stack)).running ? 0 : makeOne(stack, "full", json);
}

/** What the user asks for, at most one of them; and how. */
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
  return json ? tellAll(stack) : makeOne(stack, "diff", false);
}

/** Adds what `./db backup` takes and does to its command. */
export default function backup(command: Command): void {
  const wish = exclusive("full", "diff", "list", "figures", "keyIsSafe", "beginAnew", "portable", "check");
  command
    .description(
      "Makes a differential backup now, or the first full one. Backups on schedule need nobody; docs/recovery.md tells of both. With " +
        "--json alone it prints all that is known, and makes no backup.",
    )
    .addOption(wish("--full", "a full backup"))
    .addOption(wish("--diff", "a differential one, which is also what is made without any option"))
    .addOption(wish("--list", "the backups there are, and which times can be restored"))
    .addOption(wish("--figures", "figures for monitoring, in Prometheus' text format"))
    .addOption(wish("--key-is-safe", "note that a copy of the key file is in a safe place elsewhere"))
    .addOption(wish("--begin-anew", "after the repository was lost: begin it again, with a full backup"))
    .addOption(
      wish(
        "--portable",
        "a copy by pg_dump of every database, and the roles, encrypted with age; also without backups",
      ),
    )
    .addOption(
      wish("--check <path>", "read a portable copy again: decrypt it and let pg_restore read all of it").argParser(
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
    backup: "a backup now",
    "backup --list": "the backups there are, and which times can be restored",
    "backup --portable": "a copy that goes anywhere",
  });
}
