/** Measures the import, including its proof, against tools without one. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runImport } from "../components/import/run/run-import.ts";
import type { ImportSpec } from "../components/import/types.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { docker } from "../lib/docker.ts";
import { type Address, ident, literal } from "../lib/postgres.ts";
import { ROLE_NAMES } from "../lib/role-names.ts";
import { withConnection } from "../test/support/session.ts";
import { openDelayingProxy } from "./far.ts";
import { fillSource } from "./lab.ts";
import { figure, median, ratio, type Section, seconds } from "./results.ts";
import { dumpAndRestore, type FromContainer, pgcopydbClone, pgcopydbVersion } from "./rivals.ts";
import {
  type BenchServer,
  cpuSeconds,
  IMAGE,
  NETWORK,
  newerImage,
  prepare,
  removeServers,
  startServer,
} from "./servers.ts";

/** Delay in each direction to a source in another region, in milliseconds. */
const FAR_MS = 20;
/** Share of the rows in the smaller source, which shows whether the time grows with the rows. */
const TENTH = 0.1;
const GIB = 1024 ** 3;

/** The measurements of one method to copy a database. */
interface Figures {
  seconds: number[];
  /** CPU seconds on the source, which is usually a production server. */
  sourceCpu: number[];
}

/** The source and target servers, and what the imports need besides. */
interface Bench {
  source: BenchServer;
  target: BenchServer;
  folder: string;
  /** Image of a newer PostgreSQL. */
  newer: string;
}

const onTarget = ({ target }: Bench, sql: string) => withConnection(target.address, (client) => client.query(sql));

/** Password of the target's roles, which exist only during this run. */
const OWNER_PASSWORD = randomBytes(16).toString("hex");

async function clearTarget(bench: Bench): Promise<void> {
  for (const name of ["restored", "imported"]) await onTarget(bench, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  await onTarget(bench, "CHECKPOINT");
}

/** Runs one method once, on an empty target. */
async function measure(bench: Bench, database: string | undefined, figures: Figures, work: () => Promise<unknown>) {
  await clearTarget(bench);
  if (database) await onTarget(bench, `CREATE DATABASE ${database} TEMPLATE template0`);
  const before = await cpuSeconds(bench.source);
  figures.seconds.push(await seconds(work));
  figures.sourceCpu.push((await cpuSeconds(bench.source)) - before);
}

/** @param address how this process reaches the source; @param far how containers do. */
function importSpec({ target, folder, newer }: Bench, address: Address, far: FromContainer): ImportSpec {
  return {
    source: {
      label: "bench",
      address: { ...address, database: "source" },
      fromContainer: { ...far, network: NETWORK },
      rootCertificates: undefined,
      remarks: [],
    },
    target: {
      address: { ...target.address, database: "imported" },
      owner: ROLE_NAMES.owner,
      ownerPassword: OWNER_PASSWORD,
      roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
      preparation: (database) => preparationScript(database, []),
      fromContainer: { host: target.container, port: 5432, network: NETWORK },
    },
    stack: "bench",
    image: IMAGE,
    newerImage: newer,
    dockerHost: undefined,
    jobs: 2,
    reportFolder: join(folder, "report"),
  };
}

const quietly = { say: () => {} };
const newFigures = (): Figures => ({ seconds: [], sourceCpu: [] });
const near = ({ source }: Bench): FromContainer => ({ host: source.container, port: 5432 });

const row = (what: string, own: Figures, ours: Figures) => [
  what,
  figure(own.seconds),
  own === ours ? "1" : ratio(ours.seconds, own.seconds),
  median(own.sourceCpu).toFixed(1),
];

function printRound(round: string, figures: Record<string, Figures>): void {
  const last = Object.entries(figures).map(([name, { seconds }]) => `${name} ${seconds.at(-1)?.toFixed(1)} s`);
  console.log(`  ${round}: ${last.join(", ")}`);
}

async function compareNear(bench: Bench, rounds: number, bytes: number): Promise<Section> {
  const pgcopydb = await pgcopydbVersion();
  const figures = { ours: newFigures(), dump: newFigures(), clone: newFigures(), plain: newFigures() };
  const spec = importSpec(bench, bench.source.address, near(bench));
  for (let round = 1; round <= rounds; round += 1) {
    await measure(bench, undefined, figures.dump, () => dumpAndRestore(near(bench), bench.target));
    await measure(bench, "imported", figures.ours, () => runImport(spec, quietly));
    await measure(bench, undefined, figures.plain, () =>
      dumpAndRestore(near(bench), bench.target, { flags: "-Z0", relaxed: true }),
    );
    if (pgcopydb) {
      const folder = join(bench.folder, "pgcopydb");
      await measure(bench, "restored", figures.clone, () =>
        pgcopydbClone(bench.source.address, bench.target.address, folder),
      );
    }
    printRound(`round ${round}`, figures);
  }
  const { ours, dump, clone, plain } = figures;
  return {
    title: "Import",
    about:
      `A source of ${(bytes / GIB).toFixed(1)} GiB on disk with its indexes: 2 million jsonb rows with two b-trees and a GIN index, ` +
      "pgbench at scale 40, 140 small tables with 280 foreign keys in cycles. Both servers run in containers on this machine, the target " +
      "with a stack's settings. The import includes preflight, exported snapshot, rows, indexes, proof of every table, schema comparison, " +
      "ANALYZE, CHECKPOINT, swap and report. The other tools prove nothing.",
    table: [
      ["what", "seconds", "import / this", "CPU s on the source"],
      row("the import, with its proof", ours, ours),
      row("`pg_dump -Fd -j2`, `pg_restore -j2`", dump, ours),
      row("the same with `-Z0` and the import's session settings", plain, ours),
      ...(pgcopydb ? [row(`pgcopydb ${pgcopydb} clone, its own 4 + 4 jobs`, clone, ours)] : []),
    ],
  };
}

async function compareFar(bench: Bench, rounds: number): Promise<Section> {
  const gateway = (await docker(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", NETWORK])).trim();
  // The proxy has its own process, so that forwarding bytes costs the import's process no more than the other tools'.
  const proxy = await openDelayingProxy(bench.source.address, FAR_MS, gateway);
  const far = { host: gateway, port: proxy.port };
  const figures = { ours: newFigures(), plain: newFigures(), newer: newFigures() };
  try {
    const spec = importSpec(bench, { ...bench.source.address, ...far }, far);
    for (let round = 1; round <= rounds; round += 1) {
      await measure(bench, "imported", figures.ours, () => runImport(spec, quietly));
      await measure(bench, undefined, figures.plain, () =>
        dumpAndRestore(far, bench.target, { flags: "-Z0", relaxed: true }),
      );
      await measure(bench, undefined, figures.newer, () =>
        dumpAndRestore(far, bench.target, { flags: "-Z0", relaxed: true, image: bench.newer }),
      );
      printRound(`far ${round}`, figures);
    }
  } finally {
    proxy.close();
  }
  return {
    title: "Import from far away",
    about: `The same, with a delay of ${FAR_MS} ms in each direction between the source and its clients.`,
    table: [
      ["what", "seconds", "import / this", "CPU s on the source"],
      row("the import, with its proof", figures.ours, figures.ours),
      row("`pg_dump -Fd -j2 -Z0`, `pg_restore -j2`", figures.plain, figures.ours),
      row("the same with a newer version's programs", figures.newer, figures.ours),
    ],
  };
}

/** Returns the seconds of each import of one source. */
async function timesOf(bench: Bench, rounds: number): Promise<number[]> {
  const figures = newFigures();
  const spec = importSpec(bench, bench.source.address, near(bench));
  for (let round = 1; round <= rounds; round += 1)
    await measure(bench, "imported", figures, () => runImport(spec, quietly));
  return figures.seconds;
}

/** Measures imports. @param scale size of the source; 1 is about 2 GB. */
export async function* benchImport({ rounds, scale }: { rounds: number; scale: number }): AsyncGenerator<Section> {
  const names = {
    source: "sectorwars-bench-source",
    tenth: "sectorwars-bench-tenth",
    target: "sectorwars-bench-target",
  };
  const folder = await mkdtemp(join(tmpdir(), "sectorwars-bench-"));
  try {
    await prepare();
    const target = await startServer(names.target);
    for (const role of Object.values(ROLE_NAMES))
      await withConnection(target.address, (client) =>
        client.query(`CREATE ROLE ${ident(role)} LOGIN PASSWORD ${literal(OWNER_PASSWORD)}`),
      );
    const bench: Bench = { source: await startServer(names.source), target, folder, newer: await newerImage() };
    const bytes = await fillSource(names.source, bench.source.address, scale);
    yield await compareNear(bench, rounds, bytes);
    yield await compareFar(bench, rounds);

    const tenth: Bench = { ...bench, source: await startServer(names.tenth) };
    const tenthBytes = await fillSource(names.tenth, tenth.source.address, scale * TENTH);
    const [small, large] = [await timesOf(tenth, rounds), await timesOf(bench, 1)];
    yield {
      title: "Import, ten times the rows",
      about: "Only the import, of a source with a tenth of the rows in its large tables, and of the full source.",
      table: [
        ["source", "seconds", "against the tenth"],
        [`${(tenthBytes / GIB).toFixed(2)} GiB`, figure(small), "1"],
        [`${(bytes / GIB).toFixed(2)} GiB`, figure(large), ratio(large, small)],
      ],
    };
  } finally {
    await removeServers(...Object.values(names));
    await rm(folder, { recursive: true, force: true });
  }
}
