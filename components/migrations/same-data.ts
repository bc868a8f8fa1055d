/**
 * Checks that a migration backup comes from the same import as the database. A refresh replaces the database by the data of another
 * import, but the migration backup stays, and would restore the former data.
 */
import { type Address, maintenance, withConnection } from "../../lib/postgres.ts";
import { readMarker } from "../import/staging/swap.ts";
import { BEFORE_REFRESH, listSnapshots } from "../snapshots/snapshots.ts";
import { backupName, type MigrationBackup } from "./migration-backup.ts";

/** Returns the import that filled a database; copies of the database have the same. Undefined if no import filled it. */
const importOf = (address: Address) =>
  withConnection(address, async (client) => {
    const marker = await readMarker(client);
    return marker && `${marker.source} at ${marker.finishedAt}`;
  });

/**
 * Compares the imports of a migration backup and its database.
 * @param address the database, with the superuser's login.
 * @returns undefined if they are the same; else a description of both.
 */
export async function differentImport(address: Address): Promise<{ backup: string; database: string } | undefined> {
  const { database } = address;
  const [now, then] = await Promise.all([importOf(address), importOf({ ...address, database: backupName(database) })]);
  const inWords = (found: string | undefined) => (found === undefined ? "no import" : `the import from ${found}`);
  return now === then ? undefined : { backup: inWords(then), database: inWords(now) };
}

/**
 * Checks that an undo would not bring back the data of another import.
 * @param address the database, with the superuser's login.
 * @throws {Error} that says how to restore that data.
 */
export async function assertSameData(address: Address, backup: MigrationBackup): Promise<void> {
  const other = await differentImport(address);
  if (other === undefined) return;
  const { database } = address;
  const snapshots = await withConnection(maintenance(address), (client) => listSnapshots(client, database));
  const isKept = snapshots.some(({ name, madeAt }) => name === BEFORE_REFRESH && madeAt > backup.at);
  throw new Error(
    `The migration backup ${backupName(database)} of ${backup.at} contains the data of ${other.backup}, but ${database} contains that ` +
      `of ${other.database}. Nothing was changed. ` +
      (isKept
        ? `To restore the data that a refresh replaced: ./db snapshot restore ${BEFORE_REFRESH}. Then its last migration can be undone.`
        : `To drop the migration backup: ./db migrations forget.`),
  );
}
