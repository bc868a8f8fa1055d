/** `./db migrations`: shows the schema's revision, and undoes the last run. */
import type { Command } from "@commander-js/extra-typings";
import type pg from "pg";
import {
  backupName,
  dropMigrationBackups,
  type MigrationBackup,
  readMigrationBackup,
  restoreMigrationBackup,
  undoneName,
} from "../components/migrations/migration-backup.ts";
import { readRevisions } from "../components/migrations/revision.ts";
import { lockMigrations } from "../components/migrations/run-migrations.ts";
import { assertSameData, differentImport } from "../components/migrations/same-data.ts";
import { whileHeld } from "../components/pooler/pooler-container.ts";
import { readLeftoverLock, unblockConnections } from "../lib/connection-lock.ts";
import { databaseProperties } from "../lib/database-properties.ts";
import { maintenance, withConnection } from "../lib/postgres.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { confirm, yesOption } from "./support/confirm.ts";
import { addExamples, type Invocation, onStack } from "./support/subcommand.ts";

async function show({ stack, print }: Invocation): Promise<number> {
  const { urls } = await readStack(stack);
  const address = addressOf(urls.superuser ?? "");
  const { database } = address;
  const revisions = await readRevisions(addressOf(urls.owner ?? ""));
  const backup = await withConnection(maintenance(address), (client) => readMigrationBackup(client, database));
  const lines = [
    `  revision          ${revisions.join(", ") || "none: no migration has run here"}`,
    `  migration backup  ${backup ? `${backupName(database)}, revision ${backup.from ?? "none"}, of ${backup.at}` : "none"}`,
  ];
  const other = backup && (await differentImport(address));
  if (other)
    lines.push(`  other data        the migration backup is from ${other.backup}, the database from ${other.database}`);
  if (backup?.running) {
    lines.push(
      "  unfinished        a run is in progress, or was killed: pulumi up restores the database, and runs the migrations again",
    );
  }
  print(lines.join("\n"), {
    revisions,
    restorePoint: backup ? { ...backup, isOfOtherData: other !== undefined } : null,
  });
  return 0;
}

/** @throws {Error} if there is no migration backup. */
async function requireMigrationBackup(client: pg.Client, database: string): Promise<MigrationBackup> {
  const backup = await readMigrationBackup(client, database);
  if (backup) return backup;
  throw new Error(`There is no migration backup of ${database}: no migration has changed it.`);
}

async function undo({ stack, print }: Invocation, { yes }: { yes?: true }): Promise<number> {
  const address = addressOf((await readStack(stack)).urls.superuser ?? "");
  const { database } = address;
  return withConnection(maintenance(address), async (client) => {
    const shown = await requireMigrationBackup(client, database);
    await assertSameData(address, shown);
    const was = `as it was at ${shown.at}, at revision ${shown.from ?? "none"}`;
    const consequence =
      `This restores ${database} ${was}. Rows written since then are not in it; the current database is kept as ` +
      `${undoneName(database)}.`;
    if (!(await confirm(yes, consequence))) return 1;
    // Only after the answer, because no migrations can run while the lock is held.
    await lockMigrations(client);
    const backup = await requireMigrationBackup(client, database);
    if (backup.at !== shown.at)
      throw new Error(`The migrations of ${database} ran again before you confirmed. Nothing was changed.`);
    // A refresh cannot run while the lock is held, but one may have ended before.
    await assertSameData(address, backup);
    // A killed run leaves a connection lock, with the statements that release it.
    const properties = (await readLeftoverLock(client, database)) ?? (await databaseProperties(client, database));
    await whileHeld({ stack }, { databases: [database], disconnect: "sessions" }, async () => {
      await restoreMigrationBackup(client, database, { backup, properties, keep: true });
      await unblockConnections(client, properties);
    });
    const kept = undoneName(database);
    print(`${database} is ${was}. The former database is kept as ${kept}; ./db migrations forget drops it.`, {
      database,
      revision: backup.from ?? null,
      at: backup.at,
      kept,
    });
    return 0;
  });
}

async function forget({ stack, print }: Invocation, { yes }: { yes?: true }): Promise<number> {
  const address = addressOf((await readStack(stack)).urls.superuser ?? "");
  const { database } = address;
  const consequence =
    `This permanently drops the migration backup of ${database} (${backupName(database)}) and the database of an undone run ` +
    `(${undoneName(database)}).`;
  if (!(await confirm(yes, consequence))) return 1;
  const gone = await withConnection(maintenance(address), async (client) => {
    await lockMigrations(client);
    if ((await readMigrationBackup(client, database))?.running) {
      throw new Error(
        "The last run was killed, and its migration backup is needed: pulumi up restores the database from it.",
      );
    }
    return dropMigrationBackups(client, database);
  });
  print(gone.length > 0 ? `Dropped ${gone.join(" and ")}.` : "There was nothing to drop.", { dropped: gone });
  return 0;
}

/** Configures the command `./db migrations`. */
export default function migrations(command: Command): void {
  command.description("Shows the database's revision and the migration backup of the last run, and undoes that run.");
  command
    .command("show", { isDefault: true })
    .description("Shows the database's revision, and the migration backup of the last run.")
    .action(onStack(show));
  command
    .command("undo")
    .description("Restores the database to its state before the last run.")
    .addOption(yesOption())
    .action(onStack(undo));
  command
    .command("forget")
    .description("Drops the migration backup, and the database of an undone run.")
    .addOption(yesOption())
    .action(onStack(forget));
  addExamples(command, {
    migrations: "show the revision and the migration backup",
    "migrations undo": "restore the state before the last run",
  });
}
