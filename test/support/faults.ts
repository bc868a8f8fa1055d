/** What a test of interruptions needs beside a lab: a way to look at what is left, and a choice of how thorough to be. */
import { expect } from "vitest";
import { PHASES, type Phase } from "../../components/import/import-run.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { expectNothingLeft } from "./attempt.ts";
import type { Lab, Server, SourceServer } from "./lab.ts";
import type { TcpProxy } from "./proxy.ts";

/** FAULTS=all tries each fault in each phase, which takes half an hour; otherwise each in those that tell most. */
export const THOROUGH = process.env.FAULTS === "all";

/** All phases, or those given. */
export const phasesOr = (...chosen: Phase[]): readonly Phase[] => (THOROUGH ? PHASES : chosen);

/** The same import, with a stretch of bad network on the way to one of its ends. */
export function through(spec: ImportSpec, proxies: { source?: TcpProxy; target?: TcpProxy }): ImportSpec {
  const { source, target } = spec;
  const at = <A extends object>(address: A, proxy: TcpProxy | undefined) =>
    proxy ? { ...address, host: "127.0.0.1", port: proxy.port } : address;
  return {
    ...spec,
    source: { ...source, address: at(source.address, proxies.source) },
    target: { ...target, address: at(target.address, proxies.target) },
  };
}

/** Settings of a server that an import might relax, and where they come from. */
export function settingsOf(server: Server): Promise<Record<string, unknown>[]> {
  return server.sql(
    "postgres",
    `SELECT name, setting, source, coalesce(sourcefile, '') AS file FROM pg_settings
     WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'wal_level', 'autovacuum', 'max_wal_size', 'checkpoint_timeout',
       'checkpoint_completion_target', 'wal_compression', 'max_wal_senders', 'archive_mode', 'maintenance_work_mem', 'wal_writer_delay')
       OR sourcefile LIKE '%auto.conf' ORDER BY 1`,
  );
}

/** Neither sessions nor snapshots on either server, no container, no staging database, no changed setting. */
export async function expectNoTrace(
  lab: Lab,
  spec: ImportSpec,
  source: SourceServer,
  target: Server,
  settings: Record<string, unknown>[],
): Promise<void> {
  expect(await source.importSessions()).toEqual([]);
  expect(await target.importSessions()).toEqual([]);
  await expectNothingLeft(lab, target, spec);
  expect(await settingsOf(target)).toEqual(settings);
  expect(
    await target.value(
      "postgres",
      `SELECT datconnlimit FROM pg_database WHERE datname = '${spec.target.address.database}'`,
    ),
  ).toBe(-1);
}
