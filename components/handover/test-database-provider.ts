/** Makes the tests' database. Runs inside Pulumi's dynamic provider. */
import { readFile } from "node:fs/promises";
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { fillIn, ident, withConnection } from "../../lib/postgres.ts";
import type { TestDatabaseInputs } from "./test-database.ts";

const PATIENCE = { patienceMs: 30_000 };

async function make(inputs: TestDatabaseInputs) {
  const { host, port, user, password, database, owner } = inputs;
  const address = { host, port, user, password, database };
  await withConnection(
    { ...address, database: "postgres" },
    async (client) => {
      const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [database]);
      if (rowCount === 0) await client.query(`CREATE DATABASE ${ident(database)} TEMPLATE template0`);
    },
    PATIENCE,
  );
  const extensions = fillIn(await readFile("sql/extensions.sql", "utf8"), {});
  await withConnection(
    address,
    (client) =>
      client.query(`
        BEGIN;
        ${extensions};
        ALTER DATABASE ${ident(database)} OWNER TO ${ident(owner)};
        REVOKE ALL ON DATABASE ${ident(database)} FROM PUBLIC;
        ALTER SCHEMA public OWNER TO ${ident(owner)};
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        COMMIT`),
    PATIENCE,
  );
  return { ...inputs, fingerprint: inputsFingerprint({ ...inputs }) };
}

export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,

  async create(inputs: TestDatabaseInputs) {
    return { id: inputs.database, outs: await make(inputs) };
  },

  async update(_id, _olds, inputs: TestDatabaseInputs) {
    return { outs: await make(inputs) };
  },

  /** One that was dropped is made again by the next update. */
  async read(id, props) {
    if (props === undefined) throw new Error("a database for tests cannot be taken over from elsewhere; run pulumi up");
    const { host, port, user, password, database } = props as TestDatabaseInputs;
    const { rowCount } = await withConnection(
      { host, port, user, password, database: "postgres" },
      (client) => client.query("SELECT FROM pg_database WHERE datname = $1", [database]),
      PATIENCE,
    );
    return { id, props: rowCount === 1 ? props : { ...props, fingerprint: "dropped by hand" } };
  },

  /** It holds nothing that a test does not make again. */
  async delete(_id, { host, port, user, password, database }: TestDatabaseInputs) {
    await withConnection(
      { host, port, user, password, database: "postgres" },
      (client) => client.query(`DROP DATABASE IF EXISTS ${ident(database)} WITH (FORCE)`),
      PATIENCE,
    );
  },
};
