/** `./db reset`: restores the database to its state after the import. */
import type { Command } from "@commander-js/extra-typings";
import { BEFORE_RESTORE, IMPORTED, listSnapshots, restoreSnapshot } from "../components/snapshots/snapshots.ts";
import { maintenance, withConnection } from "../lib/postgres.ts";
import { readStack } from "../lib/stack.ts";
import { forceOption, placeOf } from "./snapshot.ts";
import { confirm, yesOption } from "./support/confirm.ts";
import { warnOfRevision } from "./support/revision.ts";
import { type Invocation, onStack } from "./support/subcommand.ts";

async function resetToImport(
  { stack, say, print }: Invocation,
  options: { force?: true; yes?: true },
): Promise<number> {
  const outputs = await readStack(stack);
  const place = placeOf(outputs);
  const { database } = place.address;
  const saved = await withConnection(maintenance(place.address), (client) => listSnapshots(client, database));
  if (!saved.some(({ name }) => name === IMPORTED)) {
    throw new Error(
      `The snapshot ${IMPORTED} does not exist. The import creates it, unless it would take more than half of the free disk space. ` +
        `To create it from the current state: ./db snapshot save ${IMPORTED}`,
    );
  }
  const consequence =
    `This restores the database ${database} of the stack ${stack} to its state after the import. ` +
    `The current data is kept as the snapshot ${BEFORE_RESTORE}, which replaces a former one.`;
  if (!(await confirm(options.yes, consequence))) return 1;
  await restoreSnapshot(place, IMPORTED, options.force);
  await warnOfRevision(outputs, say);
  print(
    `The database is in its state after the import. To restore the former data: ./db snapshot restore ${BEFORE_RESTORE}`,
    {
      restored: IMPORTED,
      kept: BEFORE_RESTORE,
    },
  );
  return 0;
}

/** Configures the command `./db reset`. */
export default function reset(command: Command): void {
  command
    .description(
      `Restores the state after the import, from the snapshot ${IMPORTED} that the import created. The current data is kept as the ` +
        `snapshot ${BEFORE_RESTORE}. To restore it: ./db snapshot restore ${BEFORE_RESTORE}`,
    )
    .addOption(forceOption())
    .addOption(yesOption())
    .action(onStack(resetToImport));
}
