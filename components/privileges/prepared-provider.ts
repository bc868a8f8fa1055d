/** Runs the preparation script, and notices when its result was changed by hand. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { type Address, withConnection } from "../../lib/postgres.ts";
import { digestOf, readDatabaseGrants, readServerGrants } from "./grants.ts";
import type { PreparedInputs } from "./privileges.ts";

/** The path is pinned: a setting of the database must not put the application's operators in place of PostgreSQL's. */
const PATIENCE = { patienceMs: 30_000, setup: "SET search_path = pg_catalog, pg_temp" };

/** The server's own database, for what concerns all databases. */
const serverOf = (address: Address): Address => ({ ...address, database: "postgres" });

/** Returns a digest of the privileges in both databases. */
async function readDigest(address: Address): Promise<string> {
  const database = await withConnection(address, readDatabaseGrants, PATIENCE);
  const server = await withConnection(serverOf(address), readServerGrants, PATIENCE);
  return digestOf(database, server);
}

async function prepare(inputs: PreparedInputs) {
  const { script, serverScript, passwordVersion: _, ...address } = inputs;
  await withConnection(serverOf(address), (client) => client.query(`BEGIN; ${serverScript}; COMMIT`), PATIENCE);
  await withConnection(address, (client) => client.query(`BEGIN; ${script}; COMMIT`), PATIENCE);
  return { ...inputs, grants: await readDigest(address), fingerprint: inputsFingerprint({ ...inputs }) };
}

/** Keeps extensions and privileges as the script says. */
export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,

  async create(inputs: PreparedInputs) {
    return { id: inputs.database, outs: await prepare(inputs) };
  },

  async update(_id, _olds, inputs: PreparedInputs) {
    return { outs: await prepare(inputs) };
  },

  /** Changed by hand, the resource no longer carries the fingerprint of what is wanted, so the next update mends it. */
  async read(id, props) {
    if (props === undefined) throw new Error("the database's preparation cannot be imported; run pulumi up");
    const grants = await readDigest(props as PreparedInputs);
    return { id, props: grants === props.grants ? props : { ...props, grants, fingerprint: "changed by hand" } };
  },
};
