/** Makes one further database, fills it where a source is named, and keeps its privileges. Runs inside Pulumi's dynamic provider. */

import { readFile } from "node:fs/promises";
import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { glance } from "../../lib/glance.ts";
import { ident, literal, maintenance, withConnection } from "../../lib/postgres.ts";
import { rolesOf } from "../../lib/role-names.ts";
import { announceRecoveryTarget } from "../backups/confirm-target.ts";
import { besideServer, directAddress } from "../import/direct.ts";
import { reportFolder } from "../import/report-folder.ts";
import { parseSourceUrl } from "../import/source-url.ts";
import { readMarker } from "../import/swap.ts";
import { runImport } from "../import/worker.ts";
import { type Guard, glanceAtGuarded, readGuarded } from "../privileges/guarded.ts";
import { preparationScript } from "../privileges/scripts.ts";
import { takeBack } from "../roles/kept-roles.ts";
import { repairableDrift, repairRoles, sentence } from "../roles/read-drift.ts";
import { expectedOfDatabase } from "../roles/role-drift.ts";
import { loginAddress } from "../server/server-access.ts";
import { type DatabaseInputs, OWN_ROLES } from "./databases.ts";
import { sourceVariable } from "./source-variable.ts";

const PATIENCE = { patienceMs: 30_000 };
const MADE_BY = "made by sectorwars-database";
/** Follows the name of a database that is being made. Names have at most 41 characters, PostgreSQL takes 63. */
const UNMARKED = "__made_by_sectorwars";

/** An import that ended in the moment of its swap has left its own mark inside, and not yet this project's on the database. */
const isOurImport = async (inputs: DatabaseInputs): Promise<boolean> =>
  (await withConnection(loginAddress(inputs), readMarker, PATIENCE)) !== undefined;

/**
 * Makes the database, or takes over the one that this project made before.
 * @throws {Error} for one of that name that is somebody else's.
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
          `There is a database ${database} already, which this project did not make. Give yours another name, or rename that one.`,
        );
      }
      if (rows[0] === undefined) await createMarked(client, database);
      else await client.query(`COMMENT ON DATABASE ${ident(database)} IS ${literal(MADE_BY)}`);
    },
    PATIENCE,
  );
}

/**
 * Makes a database that carries the project's mark from the moment it has its name: killed between the two, it would be taken for
 * somebody else's.
 */
async function createMarked(client: pg.Client, database: string): Promise<void> {
  const unmarked = ident(`${database}${UNMARKED}`);
  const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [`${database}${UNMARKED}`]);
  // Nobody else may connect until PUBLIC may not: a session would also keep it from getting its name.
  if (rowCount === 0) await client.query(`CREATE DATABASE ${unmarked} TEMPLATE template0 CONNECTION LIMIT 0`);
  await client.query(`COMMENT ON DATABASE ${unmarked} IS ${literal(MADE_BY)}`);
  await client.query(`REVOKE ALL ON DATABASE ${unmarked} FROM PUBLIC`);
  await client.query(`ALTER DATABASE ${unmarked} CONNECTION LIMIT -1`);
  await client.query(`ALTER DATABASE ${unmarked} RENAME TO ${ident(database)}`);
}

async function prepare(inputs: DatabaseInputs): Promise<void> {
  await withConnection(loginAddress(inputs), (client) => client.query(`BEGIN; ${scriptOf(inputs)}; COMMIT`), PATIENCE);
}

/** Fills a new database from the source that the environment names for it, with the same proof as the first one. */
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
  // The import's swap has put another database in this one's place.
  await withConnection(maintenance(loginAddress(inputs)), (client) =>
    client.query(`COMMENT ON DATABASE ${ident(database)} IS ${literal(MADE_BY)}`),
  );
}

/** Returns the script that prepares the database, with its own roles. */
const scriptOf = ({ database, denyList }: Pick<DatabaseInputs, "database" | "denyList">) =>
  preparationScript(database, denyList, rolesOf(database));

/** What is wanted of the database, the files in sql/ included. The image and the network are not part of it. */
const wantedOf = ({ database, denyList, passwordVersion, host, port }: DatabaseInputs) => ({
  database,
  script: scriptOf({ database, denyList }),
  passwordVersion,
  host,
  port,
});

/** PostgreSQL's own databases are guarded by the stack's. */
const guardOf = (database: string): Guard => ({ roles: Object.values(rolesOf(database)), otherDatabases: [] });

/** The roles' drift and the database's, each in words. */
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
    await takeBack(
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
  /** Looks with the inputs of the last update: those of a preview may not be known yet. */
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

  /** One that is gone is made again by the next update. */
  async read(id, props) {
    if (props === undefined) throw new Error("a further database cannot be taken over from elsewhere; run pulumi up");
    const { rowCount } = await withConnection(
      maintenance(loginAddress(props as DatabaseInputs)),
      (client) => client.query("SELECT FROM pg_database WHERE datname = $1", [id]),
      PATIENCE,
    );
    return rowCount === 1 ? { id, props } : {};
  },

  /** Somebody has said that it may go (list-provider.ts). */
  async delete(_id, props: DatabaseInputs) {
    await withConnection(
      maintenance(loginAddress(props)),
      (client) => client.query(`DROP DATABASE IF EXISTS ${ident(props.database)} WITH (FORCE)`),
      PATIENCE,
    );
  },
};
