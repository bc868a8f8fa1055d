/** `npm run snapshot`: save points of the database, for tests and experiments. */
import { humanBytes } from "../components/import/progress.ts";
import { maintenance } from "../components/import/swap.ts";
import {
  BEFORE_RESTORE,
  deleteSnapshot,
  listSnapshots,
  restoreSnapshot,
  saveSnapshot,
} from "../components/snapshots/snapshots.ts";
import { withConnection } from "../lib/postgres.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { main } from "./cli.ts";
import { warnOfRevision } from "./revision.ts";

await main({
  help: `
usage: npm run snapshot -- save|restore|delete NAME [--force] [--json] [--stack NAME]
       npm run snapshot -- list [--json] [--stack NAME]

Saves the whole database under a name, in seconds, and brings it back. Whoever is connected is disconnected: idle connections
at once, transactions get 5 seconds to end. Whoever connects meanwhile waits, or is told that the database was just renamed
and tries again. What a restore replaces is kept as the save point ${BEFORE_RESTORE}.
Save points live in the server beside the database; backups (npm run backup) are what survives a lost volume.

      --force       ends transactions that do not end by themselves
      --json        the result, for machines`,
  options: { force: { type: "boolean" }, json: { type: "boolean" } },
  takesWords: true,
  async run({ stack, values, rest: [verb, name, ...more] }) {
    if (!["save", "list", "restore", "delete"].includes(verb ?? "") || more.length > 0) {
      throw new Error("Say save, list, restore or delete, and a name. --help tells more.");
    }
    if (verb !== "list" && name === undefined) throw new Error(`Which save point? npm run snapshot -- ${verb} NAME`);
    const outputs = await readStack(stack);
    const place = { address: addressOf(outputs.urls.superuser ?? ""), container: outputs.container };
    const force = values.force === true;
    const begin = Date.now();
    const seconds = () => Math.round((Date.now() - begin) / 100) / 10;
    const tell = (words: string, result: object) => console.log(values.json ? JSON.stringify(result, null, 2) : words);
    if (verb === "list") {
      const all = await withConnection(maintenance(place.address), (client) =>
        listSnapshots(client, place.address.database),
      );
      if (values.json) console.log(JSON.stringify(all, null, 2));
      else if (all.length === 0) console.log("There are no save points. Make one: npm run snapshot -- save NAME");
      else
        for (const one of all)
          console.log(`  ${one.name.padEnd(40)} ${one.madeAt}  ${humanBytes(one.bytes).padStart(9)}`);
    } else if (verb === "save") {
      const saved = await saveSnapshot(place, name ?? "", { force });
      const back = `npm run snapshot -- restore ${saved.name}`;
      tell(`Saved ${humanBytes(saved.bytes)} as ${saved.name} in ${seconds()} s. Back to it:  ${back}`, {
        ...saved,
        seconds: seconds(),
      });
    } else if (verb === "restore") {
      await restoreSnapshot(place, name ?? "", force);
      await warnOfRevision(outputs, console.error);
      const back = `npm run snapshot -- restore ${BEFORE_RESTORE}`;
      tell(`Restored ${name} in ${seconds()} s. Back to what was there:  ${back}`, {
        restored: name,
        seconds: seconds(),
        kept: BEFORE_RESTORE,
      });
    } else {
      await deleteSnapshot(place, name ?? "");
      tell(`Deleted ${name}.`, { deleted: name });
    }
    return 0;
  },
});
