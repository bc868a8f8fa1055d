/**
 * Repeats the import: copies the source into a staging database, proves the copy, migrates it, and replaces the database with it. The
 * replaced data stays as a snapshot.
 */
import { rename } from "node:fs/promises";
import { join } from "node:path";
import type pg from "pg";
import { type PropertyOptions, settingStatements } from "../../lib/database-properties.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { REFRESHING } from "../../lib/locks.ts";
import { maintenance, withConnection } from "../../lib/postgres.ts";
import { currentScope, outsideScopes } from "../../lib/scope.ts";
import { announceRecoveryTarget } from "../backups/confirm-target.ts";
import { targetOf, WHOLE } from "../import/import-provider.ts";
import type { NeonImportInputs } from "../import/neon-import.ts";
import { runImport } from "../import/run/run-import.ts";
import { isOfImport } from "../import/schema/database-settings.ts";
import { parseSelection } from "../import/selection/selection-settings.ts";
import { stagingName } from "../import/staging/swap.ts";
import type { ImportSpec, Replacement, SafetyCopySettings, Source } from "../import/types.ts";
import type { MigrationsInputs } from "../migrations/migrations.ts";
import { specOf } from "../migrations/migrations-provider.ts";
import { migrateUnused } from "../migrations/run-migrations.ts";
import { readDenyList } from "../privileges/read-deny-list.ts";
import { preparationScript } from "../privileges/scripts.ts";
import type { SeedInputs } from "../seed/seed.ts";
import { insertSeed } from "../seed/seed-provider.ts";
import { loginAddress } from "../server/server-access.ts";
import { copyImported, prepareRefresh, type SnapshotPlace, swapRefreshed } from "../snapshots/snapshots.ts";

/** The command that starts a refresh again. */
const COMMAND = "./db refresh";
/** The part of the free disk space that the snapshot of the imported data may take, because the user did not ask for it. */
const MODEST = 0.5;

/** What to refresh, and from which source. The inputs are those of the stack's last update. */
export interface RefreshOrder {
  source: Source;
  import: NeonImportInputs;
  /** Undefined if the stack has no Alembic project. */
  migrations: MigrationsInputs | undefined;
  /** Undefined if the stack has no seed data. */
  seed: SeedInputs | undefined;
  /** Where to write a safety copy; undefined for none. */
  safetyCopy: SafetyCopySettings | undefined;
}

/** The steps of a refresh other than the import. */
export interface Completed {
  /** The schema's revision; undefined if the stack has no migrations. */
  revision?: string | null;
  /** The revisions that ran on the new data, in order. */
  ran: string[];
  /** Whether a snapshot of the new data was made, for `reset`. */
  hasImported: boolean;
}

/** The result of a refresh. */
export type Refreshed = ImportSummary & Completed;

/** Returns the stack's database, in the form that snapshots need. */
export const placeOf = (inputs: NeonImportInputs): SnapshotPlace => ({
  stack: inputs.stack,
  address: loginAddress(inputs),
  container: inputs.container,
  dockerHost: inputs.dockerHost,
});

/** Returns the import's specification, except how its copy replaces the database. */
export async function importSpecOf(order: RefreshOrder): Promise<Omit<ImportSpec, "replacement">> {
  const { source, import: inputs, safetyCopy } = order;
  // The list in force, because the inputs have the list of the first import.
  const denyList = await withConnection(placeOf(inputs).address, readDenyList);
  const target = await targetOf(inputs);
  return {
    source,
    target: { ...target, preparation: (database) => preparationScript(database, denyList) },
    stack: inputs.stack,
    image: inputs.image,
    newerImage: inputs.newerImage,
    dockerHost: inputs.dockerHost,
    jobs: inputs.jobs,
    // The report of the present data stays until the data is replaced.
    reportFolder: join(inputs.reportFolder, "refresh"),
    selection: parseSelection({ ...WHOLE, ...inputs.selection }).selection,
    command: COMMAND,
    ...(safetyCopy && { safetyCopy }),
    ...(process.env.SECTORWARS_MASK_SECRET && { maskSecret: process.env.SECTORWARS_MASK_SECRET }),
  };
}

/**
 * Refreshes the stack's database. The database does not change before the swap, which is one transaction. The next run clears what a
 * killed run leaves. Passwords, roles, settings, further databases and branches stay.
 * @throws {Error} with the reason; the database is then unchanged.
 */
export async function refreshData(order: RefreshOrder, say: (line: string) => void): Promise<Refreshed> {
  const { import: inputs } = order;
  const place = placeOf(inputs);
  const server = maintenance(place.address);
  return withConnection(
    server,
    async (holder) => {
      await prepareRefresh(holder, place.address.database);
      const spec = await importSpecOf(order);
      const done: Completed = { ran: [], hasImported: false };
      const replacement = replacementFor(order, holder, done, say);
      const summary = await runImport({ ...spec, replacement }, { say });
      await moveReport(spec.reportFolder, inputs.reportFolder).catch((error: Error) =>
        say(`the report stays in ${spec.reportFolder}: ${error.message}`),
      );
      return { ...summary, ...done };
    },
    { patienceMs: 10_000, applicationName: REFRESHING },
  );
}

function replacementFor(
  order: RefreshOrder,
  holder: pg.Client,
  done: Completed,
  say: (line: string) => void,
): Replacement {
  const { import: inputs } = order;
  const place = placeOf(inputs);
  const { address } = place;
  let imported: string | undefined;
  return {
    async complete(staging) {
      await giveSettings(holder, address.database, staging.database);
      await complete(order, { holder, staging: staging.database, done, say });
      imported = await copyImported(holder, place, { staging: stagingName(address.database), share: MODEST });
      done.hasImported = imported !== undefined;
      await announceRecoveryTarget(inputs.stack, holder, say, inputs.dockerHost);
    },
    swapIn: (lockSession) => swapRefreshed(lockSession, place, imported),
  };
}

/**
 * Gives the staging database the database's settings, except those that an import sets, so that migrations and seed data run as they
 * would in the database itself.
 */
async function giveSettings(holder: pg.Client, database: string, staging: string): Promise<void> {
  const wants: PropertyOptions["wants"] = (setting) => !isOfImport(setting);
  for (const statement of await settingStatements(holder, database, { as: staging, wants })) {
    await holder.query(statement);
  }
}

/** What the steps after the load need. */
interface Completion {
  /** A session that holds the migrations' lock. */
  holder: pg.Client;
  /** The staging database's name. */
  staging: string;
  done: Completed;
  say: (line: string) => void;
}

/** Migrates the staging database, and seeds it if imported data is seeded too. */
async function complete({ migrations, seed }: RefreshOrder, { holder, staging, done, say }: Completion): Promise<void> {
  if (migrations) {
    const spec = await specOf({ ...migrations, database: staging }, say);
    const { revision, ran } = await untilClosed((signal) => migrateUnused(holder, spec, say, signal));
    done.revision = revision;
    done.ran = ran;
    if (ran.length === 0) say(`migrations: the data is at ${revision ?? "no revision"}; nothing to run`);
  }
  if (seed?.evenImported) await insertSeed({ ...seed, database: staging }, {}, say);
}

/** Runs work outside scopes, because it must clean up after itself. Its signal is aborted when the surrounding scope closes. */
async function untilClosed<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const scope = currentScope();
  const controller = new AbortController();
  const forget = scope?.add(() => controller.abort());
  try {
    return await outsideScopes(() => work(controller.signal));
  } finally {
    forget?.();
  }
}

/** Replaces the report by that of the new data. */
async function moveReport(from: string, to: string): Promise<void> {
  for (const file of ["import.json", "import.html"]) await rename(join(from, file), join(to, file));
}
