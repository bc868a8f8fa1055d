/**
 * Whether a restore point is of the data that the database holds. A refresh puts the data of another import in the database's place,
 * and the restore point stays: it would bring back the former data.
 */
import { type Address, withConnection } from "../../lib/postgres.ts";
import { readMarker } from "../import/swap.ts";
import { BEFORE_REFRESH, listSnapshots } from "../snapshots/snapshots.ts";
import { pointName, type RestorePoint } from "./migration-backup.ts";

/** The import that a database's data is of; every copy of the database has it. Undefined where no import has filled it. */
const importOf = (address: Address) =>
  withConnection(address, async (client) => {
    const marker = await readMarker(client);
    return marker && `${marker.source} at ${marker.finishedAt}`;
  });

/**
 * Finds out what a restore point's data is of.
 * @param address the database, as its superuser.
 * @returns undefined where it is of the data that the database holds; else both imports in words.
 */
export async function otherData(address: Address): Promise<{ point: string; database: string } | undefined> {
  const { database } = address;
  const [now, then] = await Promise.all([importOf(address), importOf({ ...address, database: pointName(database) })]);
  const inWords = (found: string | undefined) => (found === undefined ? "no import" : `the import from ${found}`);
  return now === then ? undefined : { point: inWords(then), database: inWords(now) };
}

/**
 * Refuses to undo a migration of data that the database does not hold any more.
 * @param address the database, as its superuser.
 * @throws {Error} that says how to get that data back.
 */
export async function refuseOtherData(address: Address, point: RestorePoint): Promise<void> {
  const other = await otherData(address);
  if (other === undefined) return;
  const { database } = address;
  const snapshots = await withConnection({ ...address, database: "postgres" }, (client) =>
    listSnapshots(client, database),
  );
  const isKept = snapshots.some(({ name, madeAt }) => name === BEFORE_REFRESH && madeAt > point.at);
  throw new Error(
    `The restore point ${pointName(database)} of ${point.at} belongs to other data than ${database} holds: to that of ${other.point}, ` +
      `and ${database} has that of ${other.database}. Nothing was changed. ` +
      (isKept
        ? `To go back to what a refresh has replaced: ./db snapshot restore ${BEFORE_REFRESH}. A migration of that data can then be undone.`
        : `To drop the restore point: ./db migrations forget.`),
  );
}
