/** `./db reset`: the database as the import left it. */
import type { Command } from "@commander-js/extra-typings";
import { BEFORE_RESTORE, IMPORTED, listSnapshots, restoreSnapshot } from "../components/snapshots/snapshots.ts";
import { maintenance, withConnection } from "../lib/postgres.ts";
import { readStack } from "../lib/stack.ts";
import { forceOption, placeOf } from "./snapshot.ts";
import { confirm, yesOption } from "./support/confirm.ts";
import { warnOfRevision } from "./support/revision.ts";
import { type Invocation, onStack } from "./support/subcommand.ts";

async function bringBack({ stack, say, print }: Invocation, options: { force?: true; yes?: true }): Promise<number> {
  const outputs = await readStack(stack);
  const place = placeOf(outputs);
  const { database } = place.address;
  const saved = await withConnection(maintenance(place.address), (client) => listSnapshots(client, database));
  if (!saved.some(({ name }) => name === IMPORTED)) {
    throw new Error(
      `There is no snapshot ${IMPORTED}. The update that imports makes it, unless it would take more than half of the free disk ` +
        `space. To make one of the present state: ./db snapshot save ${IMPORTED}`,
    );
  }
  const consequence =
    `This replaces the database ${database} of the stack ${stack} with the snapshot ${IMPORTED}, the data as the import left it. ` +
    `The present database becomes the snapshot ${BEFORE_RESTORE}, which replaces an earlier one.`;
  if (!(await confirm(options.yes, consequence))) return 1;
  await restoreSnapshot(place, IMPORTED, options.force);
  await warnOfRevision(outputs, say);
  print(`The database is as the import left it. What was there: ./db snapshot restore ${BEFORE_RESTORE}`, {
    restored: IMPORTED,
    kept: BEFORE_RESTORE,
  });
  return 0;
}

/** Adds what `./db reset` takes and does to its command. */
export default function reset(command: Command): void {
  command
    .description(
      `Brings back the state right after the import, from the snapshot ${IMPORTED} that the import made. What is there is kept as the ` +
        `snapshot ${BEFORE_RESTORE}: ./db snapshot restore ${BEFORE_RESTORE}`,
    )
    .addOption(forceOption())
    .addOption(yesOption())
    .action(onStack(bringBack));
}
