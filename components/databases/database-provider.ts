/**
 * Creates one further database, imports into it if the environment names a source, and maintains its privileges. Runs inside Pulumi's
 * dynamic provider.
 */

import { readFile } from "node:fs/promises";
import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { glance } from "../../lib/glance.ts";
import { ident, literal, maintenance, withConnection } from "../../lib/postgres.ts";
import { rolesOf } from "../../lib/role-names.ts";
import { announceRecoveryTarget } from "../backups/confirm-target.ts";
import { reportFolder } from "../import/report/folder.ts";
import { runImport } from "../import/run/run-import.ts";
import { besideServer, directAddress } from "../import/session/direct.ts";
import { parseSourceUrl } from "../import/source/source-url.ts";
import { readMarker } from "../import/staging/swap.ts";
import { type Guard, glanceAtGuarded, readGuarded } from "../privileges/guarded.ts";
import { preparationScript } from "../privileges/scripts.ts";
import { restoreRoles } from "../roles/kept-roles.ts";
import { repairableDrift, repairRoles, sentence } from "../roles/read-drift.ts";
import { expectedOfDatabase } from "../roles/role-drift.ts";
import { loginAddress } from "../server/server-access.ts";
import { type DatabaseInputs, OWN_ROLES } from "./databases.ts";
import { sourceVariable } from "./source-variable.ts";

const PATIENCE = { patienceMs: 30_000 };
const MADE_BY = "made by sectorwars-database";
/** The suffix of a database that is being created. Names have at most 41 characters, and PostgreSQL allows 63. */
const UNMARKED = "__made_by_sectorwars";

/**
 * Whether an import of this project filled the database. An import that was killed right after its swap has left its marker inside, but
 * no comment on the database yet.
 */
const isOurImport = async (inputs: DatabaseInputs): Promise<boolean> =>
  (await withConnection(loginAddress(inputs), readMarker, PATIENCE)) !== undefined;

/**
 * Creates the database, or adopts one that this project created earlier.
 * @throws {Error} if a database of that name exists that this project did not create.
 */
async function makeDatabase(inputs: DatabaseInputs): Promise<void> {
  const { database } = inputs;
  await withConnection(
    maintenance(loginAddress(inputs)),
    async (client) => {
      const { rows } = await client.query<{ comment: string | null }>(
        "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = $1",
        [database],
      );
      if (rows[0] !== undefined && rows[0].comment !== MADE_BY && !(await isOurImport(inputs))) {
        throw new Error(
          `The database ${database} already exists, and this project did not create it. Choose another name in the setting databases, or ` +
            `rename the existing one: ALTER DATABASE ${ident(database)} RENAME TO ...`,
        );
      }
      if (rows[0] === undefined) await createMarked(client, database);
      else await client.query(`COMMENT ON DATABASE ${ident(database)} IS ${literal(MADE_BY)}`);
    },
    PATIENCE,
  );
}

/**
 * Creates a database under a temporary name, marks it with a comment, then renames it. So a database with the final name always has the
 * comment, even if the update is killed.
 */
async function createMarked(client: pg.Client, database: string): Promise<void> {
  const unmarked = ident(`${database}${UNMARKED}`);
  const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [`${database}${UNMARKED}`]);
  // No other role can connect before PUBLIC's privilege is revoked. A session would also block the rename.
  if (rowCount === 0) await client.query(`CREATE DATABASE ${unmarked} TEMPLATE template0 CONNECTION LIMIT 0`);
  await client.query(`COMMENT ON DATABASE ${unmarked} IS ${literal(MADE_BY)}`);
  await client.query(`REVOKE ALL ON DATABASE ${unmarked} FROM PUBLIC`);
  await client.query(`ALTER DATABASE ${unmarked} CONNECTION LIMIT -1`);
  await client.query(`ALTER DATABASE ${unmarked} RENAME TO ${ident(database)}`);
}

async function prepare(inputs: DatabaseInputs): Promise<void> {
  await withConnection(loginAddress(inputs), (client) => client.query(`BEGIN; ${scriptOf(inputs)}; COMMIT`), PATIENCE);
}

/** Imports into a new database from the source that the environment names for it, with the same proof as for the first database. */
async function importOnce(inputs: DatabaseInputs): Promise<void> {
  const { database, stack } = inputs;
  const url = process.env[sourceVariable(database)];
  if (!url) return;
  if (await withConnection(loginAddress(inputs), readMarker, PATIENCE)) return;
  const say = (line: string) => console.log(`${database}: ${line}`);
  await withConnection(
    maintenance(loginAddress(inputs)),
    (client) => announceRecoveryTarget(stack, client, say, inputs.dockerHost),
    PATIENCE,
  );
  const roots = process.env.NEON_ROOT_CERTIFICATES;
  await runImport(
    {
      source: parseSourceUrl(url, roots ? await readFile(roots, "utf8") : undefined),
      target: {
        address: await directAddress(inputs.container, loginAddress(inputs), inputs.dockerHost),
        owner: rolesOf(database).owner,
        ownerPassword: inputs.ownerPassword,
        roles: OWN_ROLES.map((key) => rolesOf(database)[key]),
        preparation: (name) => preparationScript(name, inputs.denyList, rolesOf(database)),
        fromContainer: besideServer(inputs.container),
      },
      stack,
      image: inputs.image,
      newerImage: inputs.newerImage,
      dockerHost: inputs.dockerHost,
      jobs: inputs.jobs,
      reportFolder: `${reportFolder(stack)}/${database}`,
      furtherDatabase: database,
    },
    { say },
  );
  // The import's swap replaced the database, and the comment with it.
  await withConnection(maintenance(loginAddress(inputs)), (client) =>
    client.query(`COMMENT ON DATABASE ${ident(database)} IS ${literal(MADE_BY)}`),
  );
}

/** Returns the script that prepares the database, with its own roles. */
const scriptOf = ({ database, denyList }: Pick<DatabaseInputs, "database" | "denyList">) =>
  preparationScript(database, denyList, rolesOf(database));

/** Returns the inputs that decide whether the database must be updated, including the files in sql/, but not the image and the network. */
const wantedOf = ({ database, denyList, passwordVersion, host, port }: DatabaseInputs) => ({
  database,
  script: scriptOf({ database, denyList }),
  passwordVersion,
  host,
  port,
});

/** PostgreSQL's own databases are guarded with the stack's first database. */
const guardOf = (database: string): Guard => ({ roles: Object.values(rolesOf(database)), otherDatabases: [] });

/** Returns the drift of the roles and of the database, in words. */
async function readDrift(inputs: DatabaseInputs, guarded: readonly string[]): Promise<string[]> {
  const { database, user } = inputs;
  const roles = await glance(maintenance(loginAddress(inputs)), (client) =>
    repairableDrift(client, expectedOfDatabase(user, database)),
  );
  const own = await glanceAtGuarded(loginAddress(inputs), guardOf(database), guarded);
  return [...(roles ?? []).map(sentence), ...own];
}

async function keep(inputs: DatabaseInputs, isNew: boolean) {
  const roles = rolesOf(inputs.database);
  if (isNew)
    await restoreRoles(
      maintenance(loginAddress(inputs)),
      OWN_ROLES.map((key) => roles[key]),
    );
  const expected = expectedOfDatabase(inputs.user, inputs.database);
  for (const drift of await repairRoles(maintenance(loginAddress(inputs)), expected, PATIENCE.patienceMs)) {
    console.log(`${inputs.database}: ${sentence(drift)}: repaired`);
  }
  await makeDatabase(inputs);
  await prepare(inputs);
  if (isNew) await importOnce(inputs);
  const guarded = await withConnection(
    loginAddress(inputs),
    (client) => readGuarded(client, guardOf(inputs.database)),
    PATIENCE,
  );
  return { ...inputs, guarded, fingerprint: inputsFingerprint(wantedOf(inputs)) };
}

export const provider: dynamic.ResourceProvider = {
  /** Connects with the inputs of the last update, because those of a preview may be unknown. */
  async diff(id, olds, news) {
    const diff = await diffByFingerprint(id, olds, wantedOf(news as DatabaseInputs));
    if (diff.changes) return diff;
    const drift = await readDrift(olds as DatabaseInputs, (olds as { guarded?: string[] }).guarded ?? []);
    for (const line of drift) console.log(`${id}: ${line}`);
    return { ...diff, changes: drift.length > 0 };
  },

  async create(inputs: DatabaseInputs) {
    return { id: inputs.database, outs: await keep(inputs, true) };
  },

  async update(_id, _olds, inputs: DatabaseInputs) {
    return { outs: await keep(inputs, false) };
  },

  /** If the database is missing, the next update creates it again. */
  async read(id, props) {
    if (props === undefined) throw new Error("pulumi import cannot import a further database; run pulumi up");
    const { rowCount } = await withConnection(
      maintenance(loginAddress(props as DatabaseInputs)),
      (client) => client.query("SELECT FROM pg_database WHERE datname = $1", [id]),
      PATIENCE,
    );
    return rowCount === 1 ? { id, props } : {};
  },

  /** The setting droppableDatabases permits it (list-provider.ts). */
  async delete(_id, props: DatabaseInputs) {
    await withConnection(
      maintenance(loginAddress(props)),
      (client) => client.query(`DROP DATABASE IF EXISTS ${ident(props.database)} WITH (FORCE)`),
      PATIENCE,
    );
  },
};
