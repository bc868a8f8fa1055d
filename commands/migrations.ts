/** `npm run migrations`: where the schema stands, and the way back from the last run. */
import { leftShut, openDoor } from "../components/migrations/door.ts";
import {
  forgetRestorePoints,
  pointName,
  putBack,
  readRestorePoint,
  undoneName,
} from "../components/migrations/restore-point.ts";
import { lockMigrations, readRevisions } from "../components/migrations/run-migrations.ts";
import { databaseProperties } from "../lib/database-properties.ts";
import { type Address, withConnection } from "../lib/postgres.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { main } from "./cli.ts";

const maintenance = (address: Address) => ({ ...address, database: "postgres" });

async function show(address: Address, owner: Address, isForMachines: boolean): Promise<number> {
  const revisions = await readRevisions(owner);
  const point = await withConnection(maintenance(address), (client) => readRestorePoint(client, address.database));
  if (isForMachines) {
    console.log(JSON.stringify({ revisions, restorePoint: point ?? null }, null, 2));
    return 0;
  }
  console.log(`  revision       ${revisions.join(", ") || "none: no migration has run here"}`);
  console.log(
    `  restore point  ${point ? `${pointName(address.database)}, revision ${point.from ?? "none"}, of ${point.at}` : "none"}`,
  );
  if (point?.running) {
    console.log(
      "  unfinished     a run is under way, or was killed: pulumi up puts the database back, and runs the migrations again",
    );
  }
  return 0;
}

async function undo(address: Address, isSure: boolean): Promise<number> {
  const { database } = address;
  return withConnection(maintenance(address), async (client) => {
    await lockMigrations(client);
    const point = await readRestorePoint(client, database);
    if (point === undefined)
      throw new Error(`There is no restore point of ${database}; no migration has changed it since.`);
    if (!isSure) {
      console.log(
        `This puts ${database} back as it was at ${point.at}, at revision ${point.from ?? "none"}. Rows written since are not ` +
          `in it; the database as it is now stays as ${undoneName(database)}. To do it: npm run migrations -- undo --yes`,
      );
      return 1;
    }
    // A run that was killed has left the door shut, and a note how it is opened.
    const properties = (await leftShut(client, database)) ?? (await databaseProperties(client, database));
    await putBack(client, database, { point, properties, keep: true });
    await openDoor(client, properties);
    console.log(
      `${database} is as it was at ${point.at}, at revision ${point.from ?? "none"}. What was undone is kept as ` +
        `${undoneName(database)}; npm run migrations -- forget drops it.`,
    );
    return 0;
  });
}

async function forget(address: Address): Promise<number> {
  const gone = await withConnection(maintenance(address), async (client) => {
    await lockMigrations(client);
    if ((await readRestorePoint(client, address.database))?.running) {
      throw new Error("The last run was killed, and its restore point is needed: pulumi up puts the database back.");
    }
    return forgetRestorePoints(client, address.database);
  });
  console.log(gone.length > 0 ? `Dropped ${gone.join(" and ")}.` : "There was nothing to drop.");
  return 0;
}

await main({
  help: `
usage: npm run migrations [-- undo [--yes] | forget] [--json] [--stack NAME]

Without a word: the database's revision, and the restore point that the last run has left.
undo puts the database back as it was before the last run; forget drops the restore point and what was undone.

      --yes         undo without asking first
      --json        the same for machines`,
  options: { yes: { type: "boolean" }, json: { type: "boolean" } },
  takesWords: true,
  async run({ stack, values, rest: [what = "show"] }) {
    const { urls } = await readStack(stack);
    const address = addressOf(urls.superuser ?? "");
    if (what === "undo") return undo(address, values.yes === true);
    if (what === "forget") return forget(address);
    if (what === "show") return show(address, addressOf(urls.owner ?? ""), values.json === true);
    throw new Error(`'${what}' is nothing this command does. It knows: undo, forget.`);
  },
});
