/**
 * The import again: the source is copied beside the data of today, proven, migrated, and then takes its place. The former data
 * stays as a snapshot.
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
import { isOfImport } from "../import/database-settings.ts";
import { targetOf, WHOLE } from "../import/import-provider.ts";
import type { NeonImportInputs } from "../import/neon-import.ts";
import { parseSelection } from "../import/selection-settings.ts";
import { asideName } from "../import/swap.ts";
import type { ImportSpec, Replacement, SafetyCopySettings, Source } from "../import/types.ts";
import { runImport } from "../import/worker.ts";
import type { MigrationsInputs } from "../migrations/migrations.ts";
import { specOf } from "../migrations/migrations-provider.ts";
import { migrateUnused } from "../migrations/run-migrations.ts";
import { readDenyList } from "../privileges/deny-list.ts";
import { preparationScript } from "../privileges/scripts.ts";
import type { SeedInputs } from "../seed/seed.ts";
import { insertSeed } from "../seed/seed-provider.ts";
import { copyImported, prepareRefresh, type SnapshotPlace, swapRefreshed } from "../snapshots/snapshots.ts";

/** What a person types to begin a refresh again. */
const COMMAND = "./db refresh";
/** The part of the free room that the snapshot of the imported data may take, which nobody has asked for. */
const MODEST = 0.5;

/** What to refresh, from where. The inputs are those of the stack's last update. */
export interface RefreshOrder {
  source: Source;
  import: NeonImportInputs;
  /** Undefined where no Alembic project is named. */
  migrations: MigrationsInputs | undefined;
  /** Undefined where nothing is seeded. */
  seed: SeedInputs | undefined;
  /** Where an encrypted copy of the source is kept; undefined for none. */
  safetyCopy: SafetyCopySettings | undefined;
}

/** What a refresh does beside the import. */
export interface Completed {
  /** The schema's revision; undefined where no migrations run. */
  revision?: string | null;
  /** Revisions that were run on the new data, in order. */
  ran: string[];
  /** Whether there is a snapshot of the new data, for `reset`. */
  hasImported: boolean;
}

/** What a refresh has done. */
export type Refreshed = ImportSummary & Completed;

/** The stack's database, as snapshots are told of it. */
export const placeOf = ({
  host,
  port,
  user,
  password,
  database,
  container,
  dockerHost,
}: NeonImportInputs): SnapshotPlace => ({
  address: { host, port, user, password, database },
  container,
  dockerHost,
});

/** What the import is told, but for how its copy takes the database's place. */
export async function importSpecOf(order: RefreshOrder): Promise<Omit<ImportSpec, "replacement">> {
  const { source, import: inputs, safetyCopy } = order;
  // The list in force: the inputs have the one of the first import.
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
    // The report of the data that is there stays until other data takes its place.
    reportFolder: join(inputs.reportFolder, "refresh"),
    selection: parseSelection({ ...WHOLE, ...inputs.selection }).selection,
    command: COMMAND,
    ...(safetyCopy && { safetyCopy }),
    ...(process.env.SECTORWARS_MASK_SECRET && { maskSecret: process.env.SECTORWARS_MASK_SECRET }),
  };
}

/**
 * Refreshes the stack's database. Until the exchange, which is one transaction, the database stays as it is; what a killed run has
 * left is cleared by the next. Passwords, roles, settings, further databases and branches stay.
 * @throws {Error} that says what went wrong, and that the database is as it was.
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
      imported = await copyImported(holder, place, { staging: asideName(address.database), share: MODEST });
      done.hasImported = imported !== undefined;
      await announceRecoveryTarget(inputs.stack, holder, say, inputs.dockerHost);
    },
    swapIn: (keeper) => swapRefreshed(keeper, address, imported),
  };
}

/**
 * Gives the loaded database the settings that somebody has given the database and that no import gives: migrations and seed data
 * must run as they would in the database itself.
 */
async function giveSettings(holder: pg.Client, database: string, staging: string): Promise<void> {
  const wants: PropertyOptions["wants"] = (setting) => !isOfImport(setting);
  for (const statement of await settingStatements(holder, database, { as: staging, wants })) {
    await holder.query(statement);
  }
}

/** What completes the loaded database. */
interface Completion {
  /** A session that holds the migrations' lock. */
  holder: pg.Client;
  /** The loaded database's name. */
  staging: string;
  done: Completed;
  say: (line: string) => void;
}

/** Migrates the loaded database, and seeds it where imported data is seeded, too. */
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

/** Runs work outside of scopes, since it has to clear up after itself; told when the surrounding one closes. */
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

/** The new data's report takes the place of the former one's. */
async function moveReport(from: string, to: string): Promise<void> {
  for (const file of ["import.json", "import.html"]) await rename(join(from, file), join(to, file));
}
