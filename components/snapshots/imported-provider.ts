/** Makes the save point of the import, in the update that imports. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { withConnection } from "../../lib/postgres.ts";
import { readMarker } from "../import/swap.ts";
import type { ImportedStateInputs } from "./imported.ts";
import { IMPORTED, saveSnapshot } from "./snapshots.ts";

/** The part of the free room that a copy may take which nobody has asked for. */
const MODEST = 0.5;
/** Milliseconds after an import in which the update that made it is still under way, at worst a slow one. */
const FRESH_MS = 10 * 60_000;

/** Whether the update that runs has made the import. Data that was kept over a destroy has another server since. */
async function justImported(client: pg.Client): Promise<boolean> {
  const marker = await readMarker(client);
  if (!marker) return false;
  const { rows } = await client.query<{ since: boolean }>("SELECT pg_postmaster_start_time() < $1 AS since", [
    marker.finishedAt,
  ]);
  return rows[0]?.since === true && Date.now() - Date.parse(marker.finishedAt) < FRESH_MS;
}

/** Never the reason for an update to fail: without it there is only nothing to reset to. */
export const provider: dynamic.ResourceProvider = {
  async diff(_id, olds: ImportedStateInputs, news: ImportedStateInputs) {
    return { changes: olds.passwordVersion !== news.passwordVersion, replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: ImportedStateInputs) {
    const { host, port, user, password, database, container, dockerHost } = inputs;
    const address = { host, port, user, password, database };
    try {
      if (await withConnection(address, justImported, { patienceMs: 30_000 })) {
        await saveSnapshot({ address, container, dockerHost }, IMPORTED, { share: MODEST });
      }
    } catch (error) {
      console.log(`no save point of the import was made: ${(error as Error).message}`);
    }
    return { id: IMPORTED, outs: inputs };
  },

  /** A new password is only noted. */
  async update(_id, _olds, news: ImportedStateInputs) {
    return { outs: news };
  },
};
