/** `./db migrations`: where the schema stands, and the way back from the last run. */
import type { Command } from "@commander-js/extra-typings";
import type pg from "pg";
import {
  forgetRestorePoints,
  pointName,
  putBack,
  type RestorePoint,
  readRestorePoint,
  undoneName,
} from "../components/migrations/migration-backup.ts";
import { readRevisions } from "../components/migrations/revision.ts";
import { lockMigrations } from "../components/migrations/run-migrations.ts";
import { otherData, refuseOtherData } from "../components/migrations/same-data.ts";
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
  const point = await withConnection(maintenance(address), (client) => readRestorePoint(client, database));
  const lines = [
    `  revision       ${revisions.join(", ") || "none: no migration has run here"}`,
    `  restore point  ${point ? `${pointName(database)}, revision ${point.from ?? "none"}, of ${point.at}` : "none"}`,
  ];
  const other = point && (await otherData(address));
  if (other) lines.push(`  other data     the restore point is of ${other.point}, the database of ${other.database}`);
  if (point?.running) {
    lines.push(
      "  unfinished     a run is under way, or was killed: pulumi up puts the database back, and runs the migrations again",
    );
  }
  print(lines.join("\n"), { revisions, restorePoint: point ? { ...point, isOfOtherData: other !== undefined } : null });
  return 0;
}

/** @throws {Error} where there is none. */
async function requireRestorePoint(client: pg.Client, database: string): Promise<RestorePoint> {
  const point = await readRestorePoint(client, database);
  if (point) return point;
  throw new Error(`There is no restore point of ${database}; no migration has changed it since.`);
}

async function undo({ stack, print }: Invocation, { yes }: { yes?: true }): Promise<number> {
  const address = addressOf((await readStack(stack)).urls.superuser ?? "");
  const { database } = address;
  return withConnection(maintenance(address), async (client) => {
    const shown = await requireRestorePoint(client, database);
    await refuseOtherData(address, shown);
    const was = `as it was at ${shown.at}, at revision ${shown.from ?? "none"}`;
    const consequence =
      `This puts ${database} back ${was}. Rows written since are not in it; the database as it is now stays as ` +
      `${undoneName(database)}.`;
    if (!(await confirm(yes, consequence))) return 1;
    // Not before the answer: nobody can run migrations while the lock is held.
    await lockMigrations(client);
    const point = await requireRestorePoint(client, database);
    if (point.at !== shown.at)
      throw new Error(`The migrations of ${database} ran again meanwhile. Nothing was changed.`);
    // No refresh runs while the lock is held; one may have ended before.
    await refuseOtherData(address, point);
    // A run that was killed has left the door shut, and a note how it is opened.
    const properties = (await readLeftoverLock(client, database)) ?? (await databaseProperties(client, database));
    await putBack(client, database, { point, properties, keep: true });
    await unblockConnections(client, properties);
    const kept = undoneName(database);
    print(`${database} is ${was}. What was undone is kept as ${kept}; ./db migrations forget drops it.`, {
      database,
      revision: point.from ?? null,
      at: point.at,
      kept,
    });
    return 0;
  });
}

async function forget({ stack, print }: Invocation, { yes }: { yes?: true }): Promise<number> {
  const address = addressOf((await readStack(stack)).urls.superuser ?? "");
  const { database } = address;
  const consequence =
    `This drops the restore point of ${database} (${pointName(database)}) and what was undone (${undoneName(database)}) ` +
    "for good.";
  if (!(await confirm(yes, consequence))) return 1;
  const gone = await withConnection(maintenance(address), async (client) => {
    await lockMigrations(client);
    if ((await readRestorePoint(client, database))?.running) {
      throw new Error("The last run was killed, and its restore point is needed: pulumi up puts the database back.");
    }
    return forgetRestorePoints(client, database);
  });
  print(gone.length > 0 ? `Dropped ${gone.join(" and ")}.` : "There was nothing to drop.", { dropped: gone });
  return 0;
}

/** Adds what `./db migrations` takes and does to its command. */
export default function migrations(command: Command): void {
  command.description(
    "Shows the database's revision and the restore point that the last migrations left, and undoes them.",
  );
  command
    .command("show", { isDefault: true })
    .description("Shows the database's revision, and the restore point that the last run has left.")
    .action(onStack(show));
  command
    .command("undo")
    .description("Puts the database back as it was before the last run.")
    .addOption(yesOption())
    .action(onStack(undo));
  command
    .command("forget")
    .description("Drops the restore point, and what was undone.")
    .addOption(yesOption())
    .action(onStack(forget));
  addExamples(command, {
    migrations: "the revision, and the restore point",
    "migrations undo": "back to what was before the last run",
  });
}
