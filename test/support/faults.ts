/** Helpers for tests of interruptions: a check of what is left, and a choice of phases. */
import { expect } from "vitest";
import { PHASES, type Phase } from "../../components/import/run/import-run.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { expectNothingLeft } from "./attempt.ts";
import type { Lab, Server, SourceServer } from "./lab.ts";
import type { TcpProxy } from "./proxy.ts";

/** FAULTS=all tests each fault in each phase, which takes 30 minutes; otherwise each fault in the most important phases. */
export const THOROUGH = process.env.FAULTS === "all";

/** Returns all phases, or the given ones. */
export const phasesOr = (...chosen: Phase[]): readonly Phase[] => (THOROUGH ? PHASES : chosen);

/** Returns the same import with a proxy between it and one of the two servers. */
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

/** Reads settings of a server that an import might relax, with their sources. */
export function settingsOf(server: Server): Promise<Record<string, unknown>[]> {
  return server.sql(
    "postgres",
    `SELECT name, setting, source, coalesce(sourcefile, '') AS file FROM pg_settings
     WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'wal_level', 'autovacuum', 'max_wal_size', 'checkpoint_timeout',
       'checkpoint_completion_target', 'wal_compression', 'max_wal_senders', 'archive_mode', 'maintenance_work_mem', 'wal_writer_delay')
       OR sourcefile LIKE '%auto.conf' ORDER BY 1`,
  );
}

/** Expects no session and no exported snapshot on either server, no container, no staging database, and unchanged settings. */
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
