/** Makes the snapshot of the imported data, in the update that imports. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { withConnection } from "../../lib/postgres.ts";
import { readMarker } from "../import/staging/swap.ts";
import { isLoginChanged, loginAddress } from "../server/server-access.ts";
import type { ImportedStateInputs } from "./imported.ts";
import { IMPORTED, saveSnapshot } from "./snapshots.ts";

/** The part of the free disk space that the snapshot may take, because the user did not ask for it. */
const MODEST = 0.5;
/** Milliseconds after an import within which the same update makes the snapshot, even a slow update. */
const FRESH_MS = 10 * 60_000;

/** Whether the running update has imported the data. On a volume that outlived its stack, the server has been restarted since. */
async function justImported(client: pg.Client): Promise<boolean> {
  const marker = await readMarker(client);
  if (!marker) return false;
  const { rows } = await client.query<{ since: boolean }>("SELECT pg_postmaster_start_time() < $1 AS since", [
    marker.finishedAt,
  ]);
  return rows[0]?.since === true && Date.now() - Date.parse(marker.finishedAt) < FRESH_MS;
}

/** A failure does not fail the update. Without the snapshot, only `./db reset` is unavailable. */
export const provider: dynamic.ResourceProvider = {
  async diff(_id, olds: ImportedStateInputs, news: ImportedStateInputs) {
    return { changes: isLoginChanged(olds, news), replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: ImportedStateInputs) {
    const { container, dockerHost } = inputs;
    const address = loginAddress(inputs);
    try {
      if (await withConnection(address, justImported, { patienceMs: 30_000 })) {
        await saveSnapshot({ address, container, dockerHost }, IMPORTED, { share: MODEST });
      }
    } catch (error) {
      console.log(`the snapshot of the imported data could not be made: ${(error as Error).message}`);
    }
    return { id: IMPORTED, outs: inputs };
  },

  /** Only records the new password. */
  async update(_id, _olds, news: ImportedStateInputs) {
    return { outs: news };
  },
};
