/** `./db snapshot`: snapshots of the database, for tests and experiments. */
import { type Command, Option } from "@commander-js/extra-typings";
import {
  BEFORE_RESTORE,
  deleteSnapshot,
  listSnapshots,
  restoreSnapshot,
  type SnapshotPlace,
  saveSnapshot,
} from "../components/snapshots/snapshots.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import { maintenance, withConnection } from "../lib/postgres.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { confirm, yesOption } from "./support/confirm.ts";
import { warnOfRevision } from "./support/revision.ts";
import { addExamples, type Invocation, onStack } from "./support/subcommand.ts";

/** Returns the location of a stack's database. */
export const placeOf = ({ stack, urls, container }: StackOutputs): SnapshotPlace => ({
  stack,
  address: addressOf(urls.superuser ?? ""),
  container,
});

/** The option of subcommands that need a database without sessions. */
export const forceOption = () => new Option("--force", "end open transactions too");

/** Starts a stopwatch that returns seconds, rounded to tenths. */
function stopwatch(): () => number {
  const begin = Date.now();
  return () => Math.round((Date.now() - begin) / 100) / 10;
}

async function list({ stack, print }: Invocation): Promise<number> {
  const { address } = placeOf(await readStack(stack));
  const all = await withConnection(maintenance(address), (client) => listSnapshots(client, address.database));
  const lines = all.map(
    ({ name, madeAt, bytes }) => `  ${name.padEnd(40)} ${madeAt}  ${humanBytes(bytes).padStart(9)}`,
  );
  print(lines.join("\n") || "There are no snapshots. To create one: ./db snapshot save NAME", all);
  return 0;
}

async function save({ stack, print }: Invocation, name: string, { force }: { force?: true }): Promise<number> {
  const place = placeOf(await readStack(stack));
  const seconds = stopwatch();
  const saved = await saveSnapshot(place, name, { force });
  const back = `./db snapshot restore ${saved.name}`;
  print(`Saved ${humanBytes(saved.bytes)} as ${saved.name} in ${seconds()} s. To restore it:  ${back}`, {
    ...saved,
    seconds: seconds(),
  });
  return 0;
}

/** The options of `./db snapshot restore`. */
interface RestoreOptions {
  force?: true;
  yes?: true;
}

async function restore({ stack, print }: Invocation, name: string, { force, yes }: RestoreOptions): Promise<number> {
  const outputs = await readStack(stack);
  const place = placeOf(outputs);
  const consequence =
    `This replaces the database ${place.address.database} of the stack ${stack} by its snapshot ${name}. ` +
    `The current data is kept as the snapshot ${BEFORE_RESTORE}, which replaces a former one.`;
  if (!(await confirm(yes, consequence))) return 1;
  const seconds = stopwatch();
  await restoreSnapshot(place, name, force);
  await warnOfRevision(outputs, console.error);
  const back = `./db snapshot restore ${BEFORE_RESTORE}`;
  print(`Restored ${name} in ${seconds()} s. To restore the former data:  ${back}`, {
    restored: name,
    seconds: seconds(),
    kept: BEFORE_RESTORE,
  });
  return 0;
}

async function remove({ stack, print }: Invocation, name: string, { yes }: { yes?: true }): Promise<number> {
  const place = placeOf(await readStack(stack));
  if (!(await confirm(yes, `This permanently deletes the snapshot ${name} of the stack ${stack}.`))) return 1;
  await deleteSnapshot(place, name);
  print(`Deleted ${name}.`, { deleted: name });
  return 0;
}

/** Configures the command `./db snapshot`. */
export default function snapshot(command: Command): void {
  command.description(
    "Saves the whole database under a name, in seconds, and restores it. Idle connections are ended at once, transactions after 5 " +
      "seconds; new connections wait, or get an error that the database was just renamed, and have to retry. Snapshots are stored in the " +
      "same server; only backups (./db backup) survive the loss of the volume.",
  );
  command
    .command("save")
    .description("Saves the database under a name.")
    .argument("<name>", "the new snapshot")
    .addOption(forceOption())
    .action(onStack(save));
  command
    .command("restore")
    .description(`Restores a snapshot. The current data is kept as the snapshot ${BEFORE_RESTORE}.`)
    .argument("<name>", "the snapshot")
    .addOption(forceOption())
    .addOption(yesOption())
    .action(onStack(restore));
  command.command("list").description("Lists the snapshots, with their sizes.").action(onStack(list));
  command
    .command("delete")
    .description("Deletes a snapshot.")
    .argument("<name>", "the snapshot")
    .addOption(yesOption())
    .action(onStack(remove));
  addExamples(command, {
    "snapshot save before-the-battle": "save the database",
    "snapshot restore before-the-battle": "restore it",
    "snapshot list": "list the snapshots",
    "snapshot delete before-the-battle": "delete it",
  });
}
