/** Creates the test database. Runs inside Pulumi's dynamic provider. */
import { readFileSync } from "node:fs";
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { fillIn, ident, maintenance, withConnection } from "../../lib/postgres.ts";
import { largeObjectsScript } from "../privileges/scripts.ts";
import { loginAddress } from "../server/server-access.ts";
import type { TestDatabaseInputs } from "./test-database.ts";

const PATIENCE = { patienceMs: 30_000 };

/** Returns the script for the database: its extensions and privileges. */
function scriptOf({ database, owner }: Pick<TestDatabaseInputs, "database" | "owner">): string {
  return `
    ${fillIn(readFileSync("sql/extensions.sql", "utf8"), {})};
    ALTER DATABASE ${ident(database)} OWNER TO ${ident(owner)};
    REVOKE ALL ON DATABASE ${ident(database)} FROM PUBLIC;
    ALTER SCHEMA public OWNER TO ${ident(owner)};
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    ${largeObjectsScript(owner)}`;
}

/** Adds the script to the inputs, so that a change to the files in sql/ updates existing databases. */
const wantedOf = (inputs: TestDatabaseInputs) => ({ ...inputs, script: scriptOf(inputs) });

async function make(inputs: TestDatabaseInputs) {
  const { database } = inputs;
  const address = loginAddress(inputs);
  await withConnection(
    maintenance(address),
    async (client) => {
      const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [database]);
      if (rowCount === 0) {
        await client.query(`CREATE DATABASE ${ident(database)} TEMPLATE template0`);
        await client.query(`REVOKE ALL ON DATABASE ${ident(database)} FROM PUBLIC`);
      }
    },
    PATIENCE,
  );
  await withConnection(address, (client) => client.query(`BEGIN; ${scriptOf(inputs)}; COMMIT`), PATIENCE);
  return { ...inputs, fingerprint: inputsFingerprint(wantedOf(inputs)) };
}

export const provider: dynamic.ResourceProvider = {
  diff: (id, olds, news) => diffByFingerprint(id, olds, wantedOf(news as TestDatabaseInputs)),

  async create(inputs: TestDatabaseInputs) {
    return { id: inputs.database, outs: await make(inputs) };
  },

  async update(_id, _olds, inputs: TestDatabaseInputs) {
    return { outs: await make(inputs) };
  },

  /** The next update creates a dropped database again. */
  async read(id, props) {
    if (props === undefined) throw new Error("a test database cannot be imported into the state; run pulumi up");
    const address = loginAddress(props as TestDatabaseInputs);
    const { rowCount } = await withConnection(
      maintenance(address),
      (client) => client.query("SELECT FROM pg_database WHERE datname = $1", [address.database]),
      PATIENCE,
    );
    return { id, props: rowCount === 1 ? props : { ...props, fingerprint: "dropped by hand" } };
  },

  /** The tests create its contents, so dropping it loses nothing. */
  async delete(_id, inputs: TestDatabaseInputs) {
    await withConnection(
      maintenance(loginAddress(inputs)),
      (client) => client.query(`DROP DATABASE IF EXISTS ${ident(inputs.database)} WITH (FORCE)`),
      PATIENCE,
    );
  },
};
