/** Runs the preparation script, and detects changes of its result by hand. Runs inside Pulumi's dynamic provider. */

import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { type Address, maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { loginAddress } from "../server/server-access.ts";
import { digestOf, readDatabaseGrants, readServerGrants } from "./grants.ts";
import { type Guard, glanceAtGuarded, readGuarded } from "./guarded.ts";
import type { DatabaseGrantsInputs } from "./privileges.ts";

const PATIENCE = { patienceMs: 30_000 };

/** Returns a digest of the privileges in the database and in the server's own. */
async function readDigest(address: Address): Promise<string> {
  const database = await withConnection(address, readDatabaseGrants, PATIENCE);
  const server = await withConnection(maintenance(address), readServerGrants, PATIENCE);
  return digestOf(database, server);
}

/** PostgreSQL's own databases have no component, so they are guarded with the stack's database. */
const GUARD: Guard = { roles: Object.values(ROLE_NAMES), otherDatabases: ["postgres", "template1"] };

async function prepare(inputs: DatabaseGrantsInputs) {
  const { script, serverScript } = inputs;
  const address = loginAddress(inputs);
  await withConnection(maintenance(address), (client) => client.query(`BEGIN; ${serverScript}; COMMIT`), PATIENCE);
  const guarded = await withConnection(
    address,
    async (client) => {
      await client.query(`BEGIN; ${script}; COMMIT`);
      return readGuarded(client, GUARD);
    },
    PATIENCE,
  );
  return { ...inputs, grants: await readDigest(address), guarded, fingerprint: inputsFingerprint({ ...inputs }) };
}

/** Maintains extensions and privileges as the script defines them. */
export const provider: dynamic.ResourceProvider = {
  /** Connects with the inputs of the last update, because those of a preview may be unknown. */
  async diff(id, olds, news) {
    const diff = await diffByFingerprint(id, olds, news);
    const { guarded } = olds as { guarded?: string[] };
    if (diff.changes || guarded === undefined) return diff;
    const inputs = olds as DatabaseGrantsInputs;
    const drift = await glanceAtGuarded(loginAddress(inputs), GUARD, guarded);
    for (const line of drift) console.log(`privileges of ${inputs.database}: ${line}`);
    return { ...diff, changes: drift.length > 0 };
  },

  async create(inputs: DatabaseGrantsInputs) {
    return { id: inputs.database, outs: await prepare(inputs) };
  },

  async update(_id, _olds, inputs: DatabaseGrantsInputs) {
    return { outs: await prepare(inputs) };
  },

  /** After a change by hand, the fingerprint no longer matches, so the next update repairs the privileges. */
  async read(id, props) {
    if (props === undefined) throw new Error("pulumi import cannot import a database's privileges; run pulumi up");
    const grants = await readDigest(loginAddress(props as DatabaseGrantsInputs));
    return { id, props: grants === props.grants ? props : { ...props, grants, fingerprint: "changed by hand" } };
  },
};
