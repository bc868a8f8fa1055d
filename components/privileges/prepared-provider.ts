/** Runs the preparation script, and notices when its result was changed by hand. Runs inside Pulumi's dynamic provider. */
import { createHash } from "node:crypto";
import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../roles/names.ts";
import { glanceAtGuarded, readGuarded } from "./guarded.ts";
import type { PreparedInputs } from "./privileges.ts";

const PATIENCE_MS = 30_000;

/** Everything about grants that the script decides, as one text; tables' own grants belong to the migrations. */
const GRANTS = `
  SELECT string_agg(line, E'\\n' ORDER BY line) AS grants FROM (
    SELECT 'database ' || pg_get_userbyid(datdba) || ' ' || coalesce(datacl::text, '') AS line
      FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'schema ' || nspname || ' ' || pg_get_userbyid(nspowner) || ' ' || coalesce(nspacl::text, '')
      FROM pg_namespace WHERE nspname IN ('public', 'sectorwars_stack')
    UNION ALL SELECT 'default ' || pg_get_userbyid(defaclrole) || ' ' || defaclobjtype::text || ' ' || defaclacl::text
      FROM pg_default_acl
    UNION ALL SELECT 'event trigger ' || evtname || ' ' || evtenabled::text FROM pg_event_trigger
    UNION ALL SELECT 'extension ' || extname FROM pg_extension
  ) s`;

async function grantsDigest(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ grants: string }>(GRANTS);
  return createHash("sha256")
    .update(rows[0]?.grants ?? "")
    .digest("hex")
    .slice(0, 16);
}

const ROLES = Object.values(ROLE_NAMES);

const addressOf = ({ host, port, user, password, database }: PreparedInputs) => ({
  host,
  port,
  user,
  password,
  database,
});

async function prepare(inputs: PreparedInputs) {
  return withConnection(
    addressOf(inputs),
    async (client) => {
      await client.query(`BEGIN; ${inputs.script}; COMMIT`);
      const [grants, guarded] = [await grantsDigest(client), await readGuarded(client, ROLES)];
      return { ...inputs, grants, guarded, fingerprint: inputsFingerprint({ ...inputs }) };
    },
    { patienceMs: PATIENCE_MS },
  );
}

/** Keeps extensions and privileges as the script says. */
export const provider: dynamic.ResourceProvider = {
  /** Looks with the inputs of the last update: those of a preview may not be known yet. */
  async diff(id, olds, news) {
    const diff = await diffByFingerprint(id, olds, news);
    const { guarded } = olds as { guarded?: string[] };
    if (diff.changes || guarded === undefined) return diff;
    const inputs = olds as PreparedInputs;
    const drift = await glanceAtGuarded(addressOf(inputs), ROLES, guarded);
    for (const line of drift) console.log(`privileges of ${inputs.database}: ${line}`);
    return { ...diff, changes: drift.length > 0 };
  },

  async create(inputs: PreparedInputs) {
    return { id: inputs.database, outs: await prepare(inputs) };
  },

  async update(_id, _olds, inputs: PreparedInputs) {
    return { outs: await prepare(inputs) };
  },

  /** Changed by hand, the resource no longer carries the fingerprint of what is wanted, so the next update mends it. */
  async read(id, props) {
    if (props === undefined) throw new Error("the database's preparation cannot be imported; run pulumi up");
    const grants = await withConnection(addressOf(props as PreparedInputs), grantsDigest, { patienceMs: PATIENCE_MS });
    return { id, props: grants === props.grants ? props : { ...props, grants, fingerprint: "changed by hand" } };
  },
};
