/** The phases of an import, in order. Each takes the results of those before it, and fails the import as a whole. */
import { humanBytes } from "../../../lib/human-bytes.ts";
import type { ImportSummary } from "../../../lib/import-summary.ts";
import { isPassing } from "../../../lib/postgres.ts";
import {
  assertOwnership,
  assertRestrictions,
  assertRowsEqual,
  assertSchemaEqual,
  COMPARED_ROLES,
} from "../compare/assertions.ts";
import { differentTexts, findRewordings, markRewordings, statesOf } from "../compare/rewording.ts";
import { findServerChanges, readServerState, serverChanged } from "../compare/server-state.ts";
import { tryLaterObjects } from "../preflight/schema-trial.ts";
import { type Baseline, baselineOfRows, baselineOfStates, positionOf, writeBaseline } from "../rows/baseline.ts";
import { findDigestProgram } from "../rows/digest.ts";
import {
  analyzeOthers,
  loadTables,
  makeRest,
  planTables,
  readTablesOfObjects,
  type WorkerConnections,
} from "../rows/load.ts";
import { compareSequences, copySequences } from "../rows/sequences.ts";
import { populatedViews, refreshViews } from "../rows/views.ts";
import { readCatalog } from "../schema/catalog.ts";
import { copySettings, readSettings, settingStates } from "../schema/database-settings.ts";
import { compareFacts, readFacts } from "../schema/facts.ts";
import { Attempts } from "../schema/failures.ts";
import { keepInheritedColumns } from "../schema/inheritance.ts";
import { copyRestrictions } from "../schema/restrictions.ts";
import { chooseDumpImage, dumpSource, dumpStaging, makeBefore } from "../schema/schema.ts";
import { describeDisplaced, findDisplaced, makeRoom } from "../schema/stack-extensions.ts";
import { compareStates, digestAll } from "../schema/states.ts";
import { maskKey, setMaskKey } from "../selection/masks.ts";
import { selectRows } from "../selection/selection.ts";
import { readSearchPath } from "../session/search-path.ts";
import { openOwner, openTarget } from "../session/session.ts";
import { exportSnapshot, joinSnapshot, lockTables, tablesToLock } from "../source/snapshot.ts";
import { createImportDatabase, importNames, swapIn, writeMarker } from "../staging/swap.ts";
import type { ImportRun } from "./import-run.ts";
import { copyLargeObjectsOf, proveLargeObjects } from "./large-objects.ts";
import { describeCopy, summarise } from "./summary.ts";

/** The source at one moment. */
export type SourceSnapshot = Awaited<ReturnType<typeof takeSnapshot>>;
/** The staging database with the first half of the schema. */
export type StagedSchema = Awaited<ReturnType<typeof copySchema>>;
/** The staging database with its rows. */
export type LoadedRows = Awaited<ReturnType<typeof copyRows>>;
/** The staging database with all its objects. */
export type CompletedSchema = Awaited<ReturnType<typeof createConstraints>>;
/** Sequence values, and what is still being read of the copy. */
export type CopiedSequences = Awaited<ReturnType<typeof copySequenceValues>>;

/** The results of the phases between the schema and the comparison. */
interface CopiedParts {
  loaded: LoadedRows;
  completed: CompletedSchema;
  copied: CopiedSequences;
}

/** Exports a snapshot of the source, locks its tables against being rewritten, and opens a session for each job in the snapshot. */
export async function takeSnapshot({ spec, enter, report, scope }: ImportRun) {
  const { source, selection } = spec;
  const end = await enter("snapshot", "exporting one snapshot for all readers");
  const snapshot = await exportSnapshot(source).catch((error: Error) => {
    // The source answered the preflight, but no session on it is open that could have reported the loss.
    throw isPassing(error) ? scope.wentAway("source", error.message) : error;
  });
  const takenAt = new Date().toISOString();
  // The source may have changed since the preflight; from here on all sessions see the same snapshot.
  const found = await readCatalog(snapshot.holder);
  await lockTables(snapshot.holder, found.tables);
  const locked = await tablesToLock(snapshot.holder, found.tables, spec.jobs);
  const key = selection && selection.masks.length > 0 ? maskKey(spec.maskSecret) : undefined;
  const openReader = async () => {
    const reader = await joinSnapshot(source, snapshot, locked);
    if (key !== undefined) await reader.query(setMaskKey(key));
    return reader;
  };
  const readers = await Promise.all(Array.from({ length: spec.jobs }, openReader));
  const tables = selection ? await selectRows(found.tables, selection, snapshot.holder) : found.tables;
  const catalog = { ...found, tables };
  report.skipped = catalog.skipped;
  end();
  return { snapshot, holder: snapshot.holder, takenAt, catalog, readers, openReader };
}

/** Creates the staging database with the extensions, privileges and settings of the copy. */
async function prepareStaging(run: ImportRun, { holder, catalog }: SourceSnapshot) {
  const { spec, report, lockSession } = run;
  const { target } = spec;
  const staging = await createImportDatabase(lockSession, spec);
  // Statements that may run code of the source run in the owner's session, never in the superuser's.
  const superuser = await openTarget(staging);
  await superuser.query(target.preparation(staging.database));
  const displaced = await findDisplaced(holder, superuser, catalog);
  const extensions = displaced.map(({ extension }) => extension);
  await makeRoom(superuser, extensions, catalog);
  report.remarks.push(...displaced.map(describeDisplaced));
  const settings = await copySettings(await readSettings(holder), staging, target.roles);
  return { staging, superuser, extensions, settings };
}

/** Copies the part of the schema that must be there before the rows, and tries the rest on empty tables. */
export async function copySchema(run: ImportRun, source: SourceSnapshot) {
  const { spec, enter, lockSession } = run;
  const { holder, catalog, snapshot } = source;
  const end = await enter("schema", "copying the schema with pg_dump");
  // pg_dump takes the longest, so everything that does not need its output runs at the same time.
  const dumpImage = await chooseDumpImage(spec, catalog.majorVersion, snapshot.roundTripMs);
  const dumping = dumpSource(spec, dumpImage, snapshot.id);
  dumping.catch(() => {});
  const tablesOfObjects = await readTablesOfObjects(holder);
  const prepared = await prepareStaging(run, source);
  run.serverState = await readServerState(lockSession, importNames(spec.target.address.database));
  const owner = await openOwner(prepared.staging, spec.target);
  const schema = await keepInheritedColumns(await dumping, holder);
  const attempts = new Attempts(await readSearchPath(holder));
  const { superuser } = prepared;
  await makeBefore({ superuser, owner }, schema, catalog, { ownerName: spec.target.owner, attempts });
  await tryLaterObjects(owner, schema.after);
  end();
  return { ...prepared, dumpImage, tablesOfObjects, owner, schema, attempts };
}

/** Copies the rows, creates keys and indexes, and proves each table by reading it back. */
export async function copyRows(run: ImportRun, source: SourceSnapshot, staged: StagedSchema) {
  const { spec, enter, progress, report, hooks, safetyCopy, lockSession } = run;
  const { catalog, holder, openReader } = source;
  const { owner, schema, tablesOfObjects, attempts } = staged;
  const end = await enter("rows", `copying the rows of ${catalog.tables.length} tables, ${spec.jobs} at a time`);
  const { plans, foreignKeys, rest } = planTables(catalog.tables, schema.after, tablesOfObjects);
  const connections = await openConnections(run, source, staged);
  progress.expect(catalog.tables);
  const ends = { source: holder, owner, progress, report, safetyCopy };
  const largeObjects = await copyLargeObjectsOf(spec, catalog, ends);
  report.tables = await loadTables({ plans, foreignKeys }, connections, {
    progress,
    onLoaded: hooks.onLoaded,
    observe: safetyCopy?.observe,
    attempts,
    reopen: openReader,
    digestProgram: await findDigestProgram(lockSession),
  });
  report.rows = report.tables.reduce((sum, proof) => sum + proof.rows, 0);
  report.bytes = report.tables.reduce((sum, proof) => sum + proof.bytes, 0);
  end();
  assertRowsEqual(report);
  return { connections, largeObjects, rest };
}

/** Opens the sessions of each job: one on the source, one of the owner and one of the superuser on the staging database. */
const openConnections = ({ spec }: ImportRun, { readers }: SourceSnapshot, { staging }: StagedSchema) =>
  Promise.all(
    readers.map(
      async (source): Promise<WorkerConnections> => ({
        source,
        target: await openOwner(staging, spec.target),
        superuser: await openTarget(staging),
      }),
    ),
  );

/** Creates triggers, policies and everything else of the schema, revokes what the source revokes, and fills materialized views. */
export async function createConstraints(
  { spec, enter, report }: ImportRun,
  { holder }: SourceSnapshot,
  { owner, superuser, schema, settings, attempts }: StagedSchema,
  { rest }: LoadedRows,
) {
  const end = await enter("constraints", `creating ${rest.length} triggers, policies and other objects`);
  await makeRest(owner, rest, attempts);
  const restrictions = await copyRestrictions(COMPARED_ROLES, holder, owner);
  report.remarks.push(...restrictions.remarks, ...settings.remarks);
  const definitions = [...schema.before, ...schema.after];
  const how = { isWhole: spec.selection === undefined, attempts };
  const views = await refreshViews(definitions, holder, { owner, superuser }, how);
  report.remarks.push(...views.remarks);
  end();
  return { definitions, restrictions, views };
}

/** Copies the values of sequences and computes statistics. Meanwhile pg_dump reads the finished schema of the copy. */
export async function copySequenceValues(
  { spec, enter, report }: ImportRun,
  { catalog, holder }: SourceSnapshot,
  { owner, staging, dumpImage, attempts }: StagedSchema,
  { connections }: LoadedRows,
) {
  const what = `copying ${catalog.sequences.length} sequences, and computing statistics for the planner`;
  const end = await enter("sequences", what);
  const dumpingStaging = dumpStaging(spec, dumpImage, staging);
  dumpingStaging.catch(() => {});
  // The superuser's sessions, because policies are in place now and may be forced on the owner.
  const sessions = connections.map(({ superuser }) => superuser);
  const rowsBaseline = baselineOfRows(catalog.tables, report.tables, sessions);
  rowsBaseline.catch(() => {});
  const sequences = await copySequences(catalog.sequences, holder, owner);
  await analyzeOthers(owner, attempts);
  report.remarks.push(...attempts.remarks);
  end();
  return { sequences, dumpingStaging, rowsBaseline };
}

/** Compares the definitions of source and copy in both directions. Definitions that PostgreSQL only words differently are equal. */
async function compareSchemas(run: ImportRun, source: SourceSnapshot, staged: StagedSchema, copied: CopiedSequences) {
  const { spec, report, lockSession } = run;
  const { holder, catalog } = source;
  const { superuser, schema, settings, dumpImage } = staged;
  const [stagingSchema] = await Promise.all([copied.dumpingStaging, lockSession.query("CHECKPOINT")]);
  const { roles } = spec.target;
  const theirs = {
    states: statesOf(schema),
    facts: await readFacts(holder),
    settings: settingStates(settings.taken, roles),
  };
  const ours = {
    states: statesOf(stagingSchema),
    facts: await readFacts(superuser),
    settings: settingStates(await readSettings(superuser), roles),
  };
  const differences = compareStates(theirs.states, ours.states);
  const settingDifferences = compareStates(theirs.settings, ours.settings);
  const factDifferences = [
    ...compareFacts(theirs.facts, ours.facts),
    ...settingDifferences.map((difference) => ({ ...difference, tolerable: false })),
  ];
  const rewordings = await findRewordings(differentTexts(differences), {
    server: { ...spec, lockSession },
    image: dumpImage,
    source: { dump: schema, catalog, settings: settings.taken, session: holder },
    target: { states: ours.states, session: superuser },
  });
  const changedDefinitions = differences.filter(({ object }) => !rewordings.proven.has(object));
  report.schema = {
    compared: theirs.states.size + theirs.facts.size + theirs.settings.size,
    differences: [...changedDefinitions, ...factDifferences].map(({ object, how }) => `${object}: ${how}`),
    reworded: [...rewordings.proven].sort(),
  };
  assertSchemaEqual(report, changedDefinitions, factDifferences, rewordings);
  return { theirs, ours, rewordings };
}

/**
 * Compares everything that is not rows, and the effects of the source's code on the server.
 * @returns the baseline with which `./db verify` compares later.
 */
export async function compare(
  run: ImportRun,
  source: SourceSnapshot,
  staged: StagedSchema,
  { loaded, completed, copied }: CopiedParts,
): Promise<Baseline> {
  const { spec, enter, report } = run;
  const { superuser, owner } = staged;
  const end = await enter("compare", "comparing schemas and sequences in both directions");
  report.sequences = await compareSequences(copied.sequences, owner);
  const { theirs, ours, rewordings } = await compareSchemas(run, source, staged, copied);
  const largeObjectStates = await proveLargeObjects(loaded.largeObjects, { source: source.holder, superuser, report });
  await assertOwnership(report, superuser, spec.target.owner);
  await assertRestrictions(report, source.holder, superuser);
  await assertServerUnchanged(run);
  const baseline: Baseline = new Map([
    ...markRewordings(baselineOfStates(digestAll(theirs.states), digestAll(ours.states)), rewordings),
    ...baselineOfStates(theirs.facts, ours.facts),
    ...baselineOfStates(digestAll(theirs.settings), digestAll(ours.settings)),
    ...report.sequences.map(({ name, ...positions }) => [positionOf(name), positions] as const),
    ...largeObjectStates,
    ...completed.views.baseline,
    ...(await copied.rowsBaseline),
  ]);
  end();
  return baseline;
}

/** Ends the import if code of the source has changed the server outside the staging database. */
async function assertServerUnchanged({ spec, lockSession, serverState }: ImportRun): Promise<void> {
  if (serverState === undefined) throw new Error("the server's state was not read before the schema was copied");
  const changed = await findServerChanges(lockSession, importNames(spec.target.address.database), serverState);
  if (changed.length > 0) throw serverChanged(changed);
}

/** Completes the safety copy, if there is one, and verifies it by reading it back. */
export async function finishSafetyCopy(
  { spec, progress, report, hooks, safetyCopy }: ImportRun,
  { holder, catalog, takenAt }: SourceSnapshot,
  { schema, settings, extensions, attempts }: StagedSchema,
  { loaded, completed, copied }: CopiedParts,
): Promise<void> {
  if (!safetyCopy) return;
  progress.phase("safety-copy: reading it back to verify it");
  const end = progress.begin("safety-copy");
  const views = await populatedViews(completed.definitions, holder);
  report.safetyCopy = await safetyCopy.finish({
    source: spec.source.label,
    catalog,
    schema,
    sequences: copied.sequences,
    views,
    takenAt,
    settings: settings.taken,
    restrictions: completed.restrictions.changes,
    displaced: extensions,
    searchPath: [...new Set([...attempts.searchPath, ...catalog.tables.map(({ schema }) => schema)])],
    largeObjects: loaded.largeObjects.grants,
  });
  end();
  hooks.say(describeCopy(report.safetyCopy));
}

/** Puts the copy in the place of the target's database. */
export async function swap(run: ImportRun, staged: StagedSchema, baseline: Baseline): Promise<ImportSummary> {
  const { spec, enter, progress, report, scope, hooks, lockSession } = run;
  const first = spec.replacement ? "completing the copy" : "writing the copy to disk";
  const end = await enter("swap", `${first}, then swapping it in for the target's database`);
  const summary = summarise(spec.source.label, report, progress);
  await writeBaseline(staged.superuser, baseline);
  await writeMarker(staged.superuser, summary);
  if (spec.replacement) {
    scope.endLoad();
    await spec.replacement.complete(staged.staging);
  }
  // The load used synchronous_commit = off. The checkpoint brings all of it to disk; most of it went there in the one before.
  await lockSession.query("CHECKPOINT");
  scope.beginSwap();
  await (spec.replacement?.swapIn(lockSession) ?? swapIn(lockSession, spec.target.address));
  // The swap itself changed the server, so a later error must not be blamed on code of the source.
  delete run.serverState;
  await hooks.onSwapped?.();
  end();
  const proven =
    summary.butFor === undefined
      ? "equal"
      : `to match what the source sent, which is everything except ${summary.butFor},`;
  hooks.say(
    `import: ${report.tables.length} tables, ${report.rows.toLocaleString("en")} rows, ${humanBytes(report.bytes)} proven ${proven} ` +
      `in ${progress.seconds.toFixed(1)} s`,
  );
  return summary;
}
