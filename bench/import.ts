/** The import with its proof, against pg_dump and pg_restore without any. */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { directAddress } from "../components/import/direct.ts";
import type { ImportSpec } from "../components/import/types.ts";
import { runImport } from "../components/import/worker.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { ROLE_NAMES } from "../components/roles/names.ts";
import { asArguments, tune } from "../components/server/tuning.ts";
import { docker } from "../lib/docker.ts";
import { type Address, ident, withConnection } from "../lib/postgres.ts";
import { figure, ratio, type Section, seconds } from "./results.ts";

const IMAGE = "sectorwars-bench-database:15";
const NETWORK = "sectorwars-bench-import";
const LABEL = "sectorwars.bench=import";
const LIMITS = { memoryMiB: 2048, cpus: 2, maxConnections: 100 };
const password = randomBytes(16).toString("hex");

/** About a gigabyte a unit: wide jsonb rows with a GIN index, narrow rows with a key, and many small tables. */
const fill = (gigabytes: number) => `
  CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, kind text NOT NULL, payload jsonb NOT NULL);
  INSERT INTO events (at, kind, payload)
    SELECT timestamptz '2026-01-01' + i * interval '1 second', 'kind ' || i % 20,
      jsonb_build_object('player', md5(i::text), 'n', i, 'tags', jsonb_build_array('t' || i % 997, 'u' || i % 31),
        'text', repeat(md5((i * 7)::text), 8))
    FROM generate_series(1, ${Math.round(1_000_000 * gigabytes)}) i;
  CREATE INDEX events_at ON events (at);
  CREATE INDEX events_kind ON events (kind, at DESC);
  CREATE INDEX events_payload ON events USING gin ((payload -> 'tags'));
  CREATE TABLE accounts (aid integer PRIMARY KEY, bid integer NOT NULL, abalance integer NOT NULL, filler char(84) NOT NULL);
  INSERT INTO accounts SELECT i, i % 20, 0, '' FROM generate_series(1, ${Math.round(2_000_000 * gigabytes)}) i;
  DO $$ BEGIN
    FOR t IN 1..70 LOOP
      EXECUTE format('CREATE TABLE small_%s (id serial PRIMARY KEY, parent integer REFERENCES accounts, name text NOT NULL UNIQUE, value numeric)', t);
      EXECUTE format('INSERT INTO small_%s (parent, name, value) SELECT i, ''name '' || i, i / 3.0 FROM generate_series(1, 500) i', t);
    END LOOP;
  END $$;
  ANALYZE;
  CHECKPOINT;`;

async function startServer(name: string): Promise<Address> {
  await docker([
    "run",
    "-d",
    "--name",
    name,
    "--label",
    LABEL,
    "--network",
    NETWORK,
    "-p",
    "127.0.0.1::5432",
    "--memory",
    `${LIMITS.memoryMiB}m`,
    "--shm-size",
    `${tune(LIMITS).shmMiB}m`,
    "-e",
    "POSTGRES_PASSWORD",
    IMAGE,
    "postgres",
    "-c",
    "config_file=/etc/postgresql/postgresql.conf",
    "-c",
    "hba_file=/etc/postgresql/pg_hba.conf",
    ...asArguments(tune(LIMITS).settings),
  ]);
  const port = Number((await docker(["port", name, "5432/tcp"])).trim().split(":").pop());
  return { host: "127.0.0.1", port, database: "postgres", user: "postgres", password };
}

async function direct(container: string, published: Address): Promise<Address> {
  await withConnection(published, (client) => client.query("SELECT 1"), { patienceMs: 60_000 });
  return directAddress(container, published, undefined);
}

async function fillSource(address: Address, gigabytes: number): Promise<number> {
  const patience = { patienceMs: 60_000 };
  await withConnection(address, (client) => client.query("CREATE DATABASE source TEMPLATE template0"), patience);
  return withConnection({ ...address, database: "source" }, async (client) => {
    await client.query(fill(gigabytes));
    return (await client.query("SELECT pg_database_size('source')::float8 AS bytes")).rows[0].bytes;
  });
}

/** pg_dump and pg_restore as people run them: parallel, by way of a folder. */
async function dumpAndRestore(source: string, target: string, flags: string): Promise<void> {
  await docker([
    "exec",
    "-e",
    "PGPASSWORD",
    target,
    "sh",
    "-c",
    `set -e; rm -rf /tmp/dump; psql -q -h 127.0.0.1 -U postgres -c 'CREATE DATABASE restored TEMPLATE template0'
     pg_dump -h ${source} -U postgres -d source -Fd -j2 ${flags} -f /tmp/dump
     pg_restore -h 127.0.0.1 -U postgres -d restored -j2 /tmp/dump; rm -rf /tmp/dump`,
  ]);
}

const importSpec = (source: Address, sourceName: string, target: Address, targetName: string): ImportSpec => ({
  source: {
    label: "bench",
    address: { ...source, database: "source" },
    fromContainer: { host: sourceName, port: 5432, network: NETWORK },
    rootCertificates: undefined,
    remarks: [],
  },
  target: {
    address: { ...target, database: "imported" },
    owner: ROLE_NAMES.owner,
    preparation: (database) => preparationScript(database, []),
    fromContainer: { host: targetName, port: 5432, network: NETWORK },
  },
  stack: "bench",
  image: IMAGE,
  newerImage: IMAGE,
  dockerHost: undefined,
  jobs: 2,
  reportFolder: ".local/bench-report",
});

export async function benchImport({ rounds, gigabytes }: { rounds: number; gigabytes: number }): Promise<Section> {
  const { databaseBase } = JSON.parse(await readFile(".local/images.json", "utf8"));
  process.env.POSTGRES_PASSWORD = password;
  process.env.PGPASSWORD = password;
  const [sourceName, targetName] = ["sectorwars-bench-source", "sectorwars-bench-target"];
  const times = { proven: [] as number[], dump: [] as number[], plain: [] as number[] };
  try {
    await docker(["build", "-q", "-t", IMAGE, "--build-arg", `BASE=${databaseBase}`, "images/database"]);
    await docker(["network", "create", "--label", LABEL, NETWORK]);
    // Neither side goes through Docker's proxy: pg_dump runs inside the network, the import finds the short way by itself.
    const source = await direct(sourceName, await startServer(sourceName));
    const target = await direct(targetName, await startServer(targetName));
    const bytes = await fillSource(source, gigabytes);
    const onServer = (sql: string) => withConnection(target, (client) => client.query(sql), { patienceMs: 60_000 });
    for (const role of Object.values(ROLE_NAMES)) await onServer(`CREATE ROLE ${ident(role)}`);
    const drop = async () => {
      await onServer("DROP DATABASE IF EXISTS restored WITH (FORCE)");
      await onServer("DROP DATABASE IF EXISTS imported WITH (FORCE)");
      await onServer("CHECKPOINT");
    };
    const spec = importSpec(source, sourceName, target, targetName);
    for (let round = 0; round < rounds; round += 1) {
      await drop();
      times.dump.push(await seconds(() => dumpAndRestore(sourceName, targetName, "")));
      await drop();
      await onServer("CREATE DATABASE imported TEMPLATE template0");
      times.proven.push(await seconds(() => runImport(spec, { say: () => {} })));
      await drop();
      times.plain.push(await seconds(() => dumpAndRestore(sourceName, targetName, "-Z0")));
      const last = Object.entries(times).map(([name, values]) => `${name} ${values.at(-1)?.toFixed(1)} s`);
      console.log(`  round ${round + 1}: ${last.join(", ")}`);
    }
    return {
      title: "Import",
      about:
        `A source of ${(bytes / 1024 ** 3).toFixed(1)} GiB on disk with its indexes (one GIN), 72 tables, both servers in containers on this machine ` +
        "with default durability; the import whole: preflight, snapshot, rows, indexes, proof of every table, schema comparison, ANALYZE, " +
        "CHECKPOINT, swap, report. The others prove nothing.",
      table: [
        ["what", "seconds", "import against it"],
        ["the import, proof included", figure(times.proven), "1"],
        ["`pg_dump -Fd -j2`, `pg_restore -j2`", figure(times.dump), ratio(times.proven, times.dump)],
        ["the same with `-Z0`", figure(times.plain), ratio(times.proven, times.plain)],
      ],
    };
  } finally {
    await docker(["rm", "-f", "-v", sourceName, targetName]).catch(() => {});
    await docker(["network", "rm", NETWORK]).catch(() => {});
  }
}
