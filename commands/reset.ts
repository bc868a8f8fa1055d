/** `npm run reset`: the database as the import left it. */
import { maintenance } from "../components/import/swap.ts";
import { BEFORE_RESTORE, IMPORTED, listSnapshots, restoreSnapshot } from "../components/snapshots/snapshots.ts";
import { withConnection } from "../lib/postgres.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { main } from "./cli.ts";
import { warnOfRevision } from "./revision.ts";

await main({
  help: `
usage: npm run reset [-- --force] [--stack NAME]

Brings back the state right after the import, from the save point ${IMPORTED} that the update made which imported. What was
there is kept as the save point ${BEFORE_RESTORE}: npm run snapshot -- restore ${BEFORE_RESTORE}

      --force       ends transactions that do not end by themselves`,
  options: { force: { type: "boolean" } },
  async run({ stack, values }) {
    const outputs = await readStack(stack);
    const place = { address: addressOf(outputs.urls.superuser ?? ""), container: outputs.container };
    const saved = await withConnection(maintenance(place.address), (client) =>
      listSnapshots(client, place.address.database),
    );
    if (!saved.some(({ name }) => name === IMPORTED)) {
      throw new Error(
        `There is no save point ${IMPORTED}. The update that imports makes it, unless the copy would take more than half of the ` +
          `free disk. To make one of today's state: npm run snapshot -- save ${IMPORTED}`,
      );
    }
    await restoreSnapshot(place, IMPORTED, values.force === true);
    await warnOfRevision(outputs);
    console.log(`The database is as the import left it. What was there: npm run snapshot -- restore ${BEFORE_RESTORE}`);
    return 0;
  },
});
