/** The import, from its first look at the source to the report. Each phase is a module of its own. */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { removeContainers } from "../../lib/docker.ts";
import { humanBytes } from "../../lib/human-bytes.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { type Address, isPassing, maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { currentScope, outsideScopes, Scope } from "../../lib/scope.ts";
import { readCatalog } from "./catalog.ts";
import { copySettings, readSettings, settingStates } from "./database-settings.ts";
import { findDigestProgram } from "./digest.ts";
import { compareFacts, type FactDifference, findStrangers, readFacts } from "./facts.ts";
import { Attempts } from "./failures.ts";
import { keepInheritedColumns } from "./inheritance.ts";
import { copyLargeObjectsOf, proveLargeObjects } from "./large-objects-import.ts";
import { analyzeOthers, type Ends, loadTables, makeRest, planTables, readBelonging } from "./load.ts";
import { maskKey, setMaskKey } from "./masks.ts";
import { warningLines } from "./preflight/findings.ts";
import { preflight } from "./preflight.ts";
import { Progress } from "./progress.ts";
import { type Patience, Pulse } from "./pulse.ts";
import { type ImportRecord, noteRows, noteStates, positionOf, writeRecord } from "./record.ts";
import { rehearse } from "./rehearsal.ts";
import { writeReport } from "./report.ts";
import { copyRestrictions, describeRestriction, readRestrictions } from "./restrictions.ts";
import { differentTexts, findRewordings, noteRewordings, type Rewordings, statesOf } from "./rewording.ts";
import { SafetyCopy } from "./safety-copy.ts";
import { chooseDumpImage, dumpAside, dumpSource, helperLabel, LOCK_NOT_AVAILABLE, makeBefore } from "./schema.ts";
import { readSearchPath } from "./search-path.ts";
import { describeSelection, selectRows } from "./selection.ts";
import { compareSequences, copySequences } from "./sequences.ts";
import { findServerChanges, readServerState, type ServerState, serverChanged } from "./server-state.ts";
import { openOwner, openTarget } from "./session.ts";
import { exportSnapshot, joinSnapshot, lockTables, tablesToLock } from "./snapshot.ts";
import { describeDisplaced, findDisplaced, makeRoom } from "./stack-extensions.ts";
import { compareStates, digestAll, type StateDifference } from "./states.ts";
import { CLEARING, clearAside, clearDead, importNames, lockServer, makeAside, swapIn, writeMarker } from "./swap.ts";
import type { ImportSpec, Report, SafetyCopyFacts, Table } from "./types.ts";
import { populatedViews, refreshViews } from "./views.ts";

/** Phases in order; a test may end the process in any of them. */
export const PHASES = [
  "preflight",
  "snapshot",
  "schema",
  "rows",
  "constraints",
  "sequences",
  "compare",
  "swap",
] as const;
/** One of {@link PHASES}. */
export type Phase = (typeof PHASES)[number];

/** What an import tells others while it runs. */
export interface ImportHooks {
  /** Shows a line to whoever waits. */
  say: (line: string) => void;
  /** Told when a phase begins. */
  onPhase?: (phase: Phase) => Promise<void>;
  /** Told when a table's rows are in, before they are proven. */
  onLoaded?: (table: Table) => Promise<void>;
  /** Told when the copy has taken the target's place. */
  onSwapped?: () => Promise<void>;
  /** How long silence of a server is borne; a test is less patient. */
  patience?: Partial<Patience>;
}

/** Whoever is told does what he likes with it: that is none of the import's, and does not end with it. */
const outside = ({ onPhase, onLoaded, onSwapped, ...hooks }: ImportHooks): ImportHooks => ({
  ...hooks,
  onPhase: onPhase && ((phase) => outsideScopes(() => onPhase(phase))),
  onLoaded: onLoaded && ((table) => outsideScopes(() => onLoaded(table))),
  onSwapped: onSwapped && (() => outsideScopes(() => onSwapped())),
});

type End = "source" | "target";

/** Roles whose privileges are compared. */
const ROLES = Object.values(ROLE_NAMES);

/** SQLSTATE of a server that has no room left. */
const DISK_FULL = "53100";
/** Milliseconds in which a connection that broke is noticed at all its ends. */
const NOTICING_MS = 300;
/** Milliseconds to wait for the clearing behind a failure; whoever stops an import waits, too. The server goes on by itself. */
const CLEARING_MS = 4000;

/** What the server or the network said, below all that was said about it since. */
function originOf(error: unknown): { code?: string } {
  const { cause } = error as { cause?: unknown };
  return cause instanceof Error ? originOf(cause) : (error as { code?: string });
}

/** A server that went away is told as such, not as what some socket made of it. */
async function explain(error: unknown, holdings: Holdings): Promise<unknown> {
  const { message } = error as Error;
  const origin = originOf(error);
  const { code } = origin;
  if (holdings.reason) return holdings.reason;
  if (code === DISK_FULL) {
    return new Error(
      `The target's disk is full (${message}); ${holdings.outcome} Free some space (docker system df shows what ` +
        `Docker holds), then run ${holdings.command} again.`,
      { cause: error },
    );
  }
  // Only on the source is there a limit to waiting.
  if (code === LOCK_NOT_AVAILABLE) {
    return new Error(
      `Somebody is changing a table of the source, or waits to (TRUNCATE, ALTER TABLE, VACUUM FULL, a migration): ${message}. ` +
        `Nothing was changed here; run ${holdings.command} again when that is done.`,
      { cause: error },
    );
  }
  // Whoever meets a connection that broke may know it before the connection does.
  const isOfTheNetwork = isPassing(origin) || code === "ERR_STREAM_PREMATURE_CLOSE";
  if (holdings.lost === undefined && isOfTheNetwork) await sleep(NOTICING_MS);
  return holdings.lost === undefined ? error : holdings.wentAway(holdings.lost, message);
}

/** What an import has open, at both ends. All of it is ended at once, however the import ends. */
class Holdings extends Scope {
  /** The end whose connection was the first to be lost. */
  lost: End | undefined;
  private readonly spec: ImportSpec;
  private readonly pulse: Pulse;
  private keeper: pg.Client | undefined;
  /** From here on it is a matter of a moment, and nobody can tell from outside whether it has passed. */
  private swapping = false;
  /** Whether the copy is loaded and proven: from then on the keeper's session alone is needed. */
  private loaded = false;

  constructor(spec: ImportSpec, patience: Partial<Patience> | undefined) {
    super();
    this.spec = spec;
    this.pulse = new Pulse(this, patience);
  }

  /** Opens the session that holds the server for this import alone, and outlives all others. */
  async openKeeper(): Promise<pg.Client> {
    this.keeper = await openTarget(maintenance(this.spec.target.address));
    await lockServer(this.keeper);
    return this.keeper;
  }

  override opened(client: pg.Client, address: Address, pid: number): void {
    const { target } = this.spec;
    const end = address.host === target.address.host && address.port === target.address.port ? "target" : "source";
    // Only a connection that ends by itself tells this; one that is closed does not.
    client.once("error", () => {
      if (this.reason === undefined && !(this.loaded && client !== this.keeper)) this.lost ??= end;
    });
    this.pulse.watch(client, address, pid, (why) => {
      this.lost ??= end;
      this.close(this.wentAway(end, why));
    });
  }

  /** What a person types to begin again. */
  get command(): string {
    return this.spec.command ?? "pulumi up";
  }

  /** What there is to say about the target's database, behind "... ; ". */
  get outcome(): string {
    return this.swapping
      ? "the target's database is either as it was or the whole copy."
      : "the target's database is as it was.";
  }

  wentAway(end: End, why: string): Error {
    const who = end === "source" ? `The source ${this.spec.source.label}` : "The target's server";
    return new Error(
      `${who} went away while the import ran (${why}); ${this.outcome} When it is back, run ${this.command} again.`,
    );
  }

  /** Somebody wants the import to end. In its last moment it is left to end by itself. */
  stop(): void {
    if (this.swapping) return;
    this.close(new Error(`The import was stopped; ${this.outcome} Run ${this.command} to begin again.`));
  }

  /** Ends every session but the keeper's: the source is no longer needed, and the copy is for others to complete. */
  endLoad(): void {
    this.check();
    this.loaded = true;
    this.endAllBut(this.keeper);
  }

  /** The same of sessions that would be in the way of the databases' new names. From here on nothing stops the import. */
  beginSwap(): void {
    this.endLoad();
    this.swapping = true;
  }

  override close(reason: Error): void {
    this.pulse.stop();
    super.close(reason);
  }
}

/**
 * Imports the source into the target's database, or says what the target was imported from before. On any failure the target
 * is as it was. When the scope that it runs in is closed, it ends at once, whatever it is doing; what it has made is cleared
 * before the promise is rejected.
 * @throws {Error} that says what went wrong and what to do; after a comparison that failed, what differs.
 */
export async function runImport(spec: ImportSpec, hooks: ImportHooks): Promise<ImportSummary> {
  const holdings = new Holdings(spec, hooks.patience);
  const told = outside(hooks);
  const forget = currentScope()?.add(() => holdings.stop());
  try {
    return await holdings.run(() => importOrAdopt(spec, told, holdings));
  } catch (error) {
    throw holdings.reason ?? error;
  } finally {
    forget?.();
    holdings.close(new Error("the import ended"));
  }
}

async function importOrAdopt(spec: ImportSpec, hooks: ImportHooks, holdings: Holdings): Promise<ImportSummary> {
  const progress = new Progress(hooks.say);
  const startedAt = new Date().toISOString();
  const enter = async (phase: Phase, line: string) => {
    progress.phase(line);
    await hooks.onPhase?.(phase);
    holdings.check();
    return progress.begin(phase);
  };

  const keeper = await holdings.openKeeper();
  const endPreflight = await enter("preflight", `looking at ${spec.source.label} and at the target`);
  const seen = await preflight(spec);
  endPreflight();
  if (seen.done) {
    // A run that died right behind the swap has left the database that was replaced.
    await clearAside(keeper, spec.target.address.database);
    hooks.say(`import: ${spec.target.address.database} was imported before, at ${seen.done.finishedAt}; nothing to do`);
    return seen.done;
  }
  for (const line of warningLines(seen.findings)) hooks.say(`import: ${line}`);
  const report: Report = {
    verdict: "failed",
    stack: spec.stack,
    ...(spec.furtherDatabase !== undefined && { furtherDatabase: spec.furtherDatabase }),
    command: holdings.command,
    source: spec.source.label,
    sourceVersion: seen.catalog.version,
    targetVersion: seen.targetVersion,
    collations: { source: seen.catalog.collation, target: seen.targetCollation },
    alembicRevision: seen.catalog.alembicRevision,
    startedAt,
    seconds: 0,
    rows: 0,
    bytes: 0,
    tables: [],
    sequences: [],
    schema: { compared: 0, differences: [] },
    skipped: seen.catalog.skipped,
    remarks: seen.remarks,
    spans: progress.spans,
  };
  const work: Work = { enter, progress, report, holdings, keeper, hooks };
  let safetyCopy: SafetyCopy | undefined;
  try {
    // Before anything is read or written: a folder that cannot be used is no reason to have copied for an hour.
    safetyCopy = spec.safetyCopy && (await SafetyCopy.begin(spec.safetyCopy, spec.stack, hooks.say));
    const summary = await copyAndProve(spec, safetyCopy, work);
    report.verdict = summary.butFor === undefined ? "identical" : "selected";
    return summary;
  } catch (error) {
    const changed = await outsideScopes(() => changesOf(spec, work.serverState));
    const explained = changed.length > 0 ? serverChanged(changed) : await explain(error, holdings);
    report.error = (explained as Error).message;
    holdings.close(explained as Error);
    throw explained;
  } finally {
    if (report.verdict !== "identical" && report.verdict !== "selected") {
      await outsideScopes(() => clearRemains(spec, safetyCopy));
      delete report.safetyCopy;
    }
    report.seconds = progress.seconds;
    hooks.say(`import: ${report.verdict}; ${await tellReport(spec.reportFolder, report)}`);
  }
}

/** A report that cannot be written changes nothing about the data, nor about what went wrong with it. */
const tellReport = (folder: string, report: Report): Promise<string> =>
  writeReport(folder, report).then(
    (page) => `the report is ${page}`,
    (error: Error) => `the report could not be written: ${error.message}`,
  );

/**
 * What code of the source has changed outside of the copy before the import failed; nothing where the server cannot be asked.
 */
async function changesOf({ target }: ImportSpec, before: ServerState | undefined): Promise<string[]> {
  if (before === undefined) return [];
  const find = (client: pg.Client) => findServerChanges(client, importNames(target.address.database), before);
  return withConnection(maintenance(target.address), find, { attemptMs: CLEARING_MS }).catch(() => []);
}

/** What an import that failed has made. Should a server be gone, the next run begins by clearing. */
async function clearRemains(spec: ImportSpec, safetyCopy: SafetyCopy | undefined): Promise<void> {
  const scope = new Scope();
  const timer = setTimeout(() => scope.close(new Error("clearing took too long")), CLEARING_MS);
  const clearDatabase = () =>
    withConnection(
      maintenance(spec.target.address),
      async (client) => {
        await lockServer(client);
        await clearAside(client, spec.target.address.database);
      },
      { attemptMs: CLEARING_MS, applicationName: CLEARING },
    );
  const clearDocker = async () => {
    const clear = () => removeContainers(helperLabel(spec.stack), { host: spec.dockerHost });
    await clear();
    // One that was asked for in the very last moment comes to be a little later.
    await sleep(NOTICING_MS);
    await clear();
  };
  await scope.run(() => Promise.allSettled([clearDatabase(), clearDocker(), safetyCopy?.discard()]));
  clearTimeout(timer);
}

interface Work {
  enter: (phase: Phase, line: string) => Promise<() => number>;
  progress: Progress;
  report: Report;
  holdings: Holdings;
  keeper: pg.Client;
  hooks: ImportHooks;
  /** The server as it was before anything of the source ran in it; known from then on. */
  serverState?: ServerState;
}

async function copyAndProve(spec: ImportSpec, safetyCopy: SafetyCopy | undefined, work: Work): Promise<ImportSummary> {
  const { enter, progress, report, holdings, keeper, hooks } = work;
  const { source, target } = spec;
  await clearDead(keeper);
  await clearAside(keeper, target.address.database);

  const endSnapshot = await enter("snapshot", "one snapshot for all that is read");
  const snapshot = await exportSnapshot(source).catch((error: Error) => {
    // It answered a moment ago, and no connection to it was left whose end could be told.
    throw isPassing(error) ? holdings.wentAway("source", error.message) : error;
  });
  const takenAt = new Date().toISOString();
  // What was looked at before may have changed since; from here on everybody sees the same.
  const found = await readCatalog(snapshot.holder);
  await lockTables(snapshot.holder, found.tables);
  const locked = await tablesToLock(snapshot.holder, found.tables, spec.jobs);
  const { selection } = spec;
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
  endSnapshot();

  const endSchema = await enter("schema", "the schema, as pg_dump writes it");
  // pg_dump takes the longest; what it does not have to wait for is made beside it.
  const dumpImage = await chooseDumpImage(spec, catalog.majorVersion, snapshot.roundTripMs);
  const dumping = dumpSource(spec, dumpImage, snapshot.id);
  dumping.catch(() => {});
  const belonging = await readBelonging(snapshot.holder);
  const aside = await makeAside(keeper, spec);
  // The superuser's session and the owner's: whatever may run code of the source is done in the latter.
  const superuser = await openTarget(aside);
  await superuser.query(target.preparation(aside.database));
  const displaced = await findDisplaced(snapshot.holder, superuser, catalog);
  await makeRoom(
    superuser,
    displaced.map(({ extension }) => extension),
    catalog,
  );
  report.remarks.push(...displaced.map(describeDisplaced));
  const settings = await copySettings(await readSettings(snapshot.holder), aside, target.roles);
  work.serverState = await readServerState(keeper, importNames(target.address.database));
  const owner = await openOwner(aside, target);
  const schema = await keepInheritedColumns(await dumping, snapshot.holder);
  const attempts = new Attempts(await readSearchPath(snapshot.holder));
  await makeBefore({ superuser, owner }, schema, catalog, { ownerName: target.owner, attempts });
  await rehearse(owner, schema.after);
  endSchema();

  const endRows = await enter("rows", `the rows of ${catalog.tables.length} tables, ${spec.jobs} at a time`);
  const { plans, foreignKeys, rest } = planTables(catalog.tables, schema.after, belonging);
  const ends = await openEnds();
  progress.expect(catalog.tables);
  const largeObjects = await copyLargeObjectsOf(spec, catalog, {
    source: snapshot.holder,
    owner,
    progress,
    report,
    safetyCopy,
  });
  report.tables = await loadTables({ plans, foreignKeys }, ends, {
    progress,
    onLoaded: hooks.onLoaded,
    observe: safetyCopy?.observe,
    attempts,
    reopen: openReader,
    digestProgram: await findDigestProgram(keeper),
  });
  report.rows = report.tables.reduce((sum, proof) => sum + proof.rows, 0);
  report.bytes = report.tables.reduce((sum, proof) => sum + proof.bytes, 0);
  endRows();
  refuseDifferences(report);

  const endConstraints = await enter("constraints", `${rest.length} triggers, policies and others`);
  await makeRest(owner, rest, attempts);
  const restrictions = await copyRestrictions(ROLES, snapshot.holder, owner);
  report.remarks.push(...restrictions.remarks, ...settings.remarks);
  const definitions = [...schema.before, ...schema.after];
  const views = await refreshViews(
    definitions,
    snapshot.holder,
    { owner, superuser },
    { isWhole: selection === undefined, attempts },
  );
  report.remarks.push(...views.remarks);
  endConstraints();

  const endSequences = await enter(
    "sequences",
    `${catalog.sequences.length} sequences, and statistics for the planner`,
  );
  // All definitions are in place: while pg_dump reads them, the rest is done, and what was loaded settles to disk.
  const dumpingAside = dumpAside(spec, dumpImage, aside);
  dumpingAside.catch(() => {});
  const noting = noteRows(
    catalog.tables,
    report.tables,
    // Policies are in place, and may be forced on the owner.
    ends.map((end) => end.superuser),
  );
  noting.catch(() => {});
  const sequences = await copySequences(catalog.sequences, snapshot.holder, owner);
  await analyzeOthers(owner, attempts);
  report.remarks.push(...attempts.remarks);
  endSequences();

  const endCompare = await enter("compare", "both schemas and sequences, in both directions");
  report.sequences = await compareSequences(sequences, owner);
  const [aSchema] = await Promise.all([dumpingAside, keeper.query("CHECKPOINT")]);
  const theirs = statesOf(schema);
  const ours = statesOf(aSchema);
  const theirFacts = await readFacts(snapshot.holder);
  const ourFacts = await readFacts(superuser);
  const theirSettings = settingStates(settings.taken, target.roles);
  const ourSettings = settingStates(await readSettings(superuser), target.roles);
  const differences = compareStates(theirs, ours);
  const factDifferences = [
    ...compareFacts(theirFacts, ourFacts),
    ...compareStates(theirSettings, ourSettings).map((difference) => ({ ...difference, tolerable: false })),
  ];
  const rewordings = await findRewordings(differentTexts(differences), {
    server: { ...spec, keeper },
    image: dumpImage,
    source: { dump: schema, catalog, settings: settings.taken, session: snapshot.holder },
    target: { states: ours, session: superuser },
  });
  const changedDefinitions = differences.filter(({ object }) => !rewordings.proven.has(object));
  report.schema = {
    compared: theirs.size + theirFacts.size + theirSettings.size,
    differences: [...changedDefinitions, ...factDifferences].map(({ object, how }) => `${object}: ${how}`),
    reworded: [...rewordings.proven].sort(),
  };
  refuseSchemaDifferences(report, changedDefinitions, factDifferences, rewordings);
  const largeObjectStates = await proveLargeObjects(largeObjects, { source: snapshot.holder, superuser, report });
  await refuseStrangers(report, superuser, target.owner);
  await refuseLooser(report, snapshot.holder, superuser);
  const changed = await findServerChanges(keeper, importNames(target.address.database), work.serverState);
  if (changed.length > 0) throw serverChanged(changed);
  const record: ImportRecord = new Map([
    ...noteRewordings(noteStates(digestAll(theirs), digestAll(ours)), rewordings),
    ...noteStates(theirFacts, ourFacts),
    ...noteStates(digestAll(theirSettings), digestAll(ourSettings)),
    ...report.sequences.map(({ name, ...positions }) => [positionOf(name), positions] as const),
    ...largeObjectStates,
    ...views.record,
    ...(await noting),
  ]);
  endCompare();

  if (safetyCopy) {
    progress.phase("the safety copy: reading it again to its end");
    const endCopy = progress.begin("safety-copy");
    const views = await populatedViews(definitions, snapshot.holder);
    report.safetyCopy = await safetyCopy.finish({
      source: source.label,
      catalog,
      schema,
      sequences,
      views,
      takenAt,
      settings: settings.taken,
      restrictions: restrictions.changes,
      displaced: displaced.map(({ extension }) => extension),
      searchPath: [...new Set([...attempts.searchPath, ...catalog.tables.map(({ schema }) => schema)])],
      largeObjects: largeObjects.grants,
    });
    endCopy();
    hooks.say(describeCopy(report.safetyCopy));
  }

  const first = spec.replacement ? "completing the copy" : "settling to disk";
  const endSwap = await enter("swap", `${first}, then taking the target's place`);
  const summary = summarise(source.label, report, progress);
  await writeRecord(superuser, record);
  await writeMarker(superuser, summary);
  if (spec.replacement) {
    holdings.endLoad();
    await spec.replacement.complete(aside);
  }
  // The load did not wait for its commits to reach the disk. From here on everything has; little is left since the last time.
  await keeper.query("CHECKPOINT");
  holdings.beginSwap();
  await (spec.replacement?.swapIn(keeper) ?? swapIn(keeper, target.address));
  // The swap itself has changed the target's database: an error from here on is not the source's doing.
  delete work.serverState;
  await hooks.onSwapped?.();
  endSwap();
  hooks.say(
    `import: ${report.tables.length} tables, ${report.rows.toLocaleString("en")} rows, ${humanBytes(report.bytes)} proven ` +
      `${summary.butFor === undefined ? "equal" : `to be what the source sent, which is the source but for ${summary.butFor},`} ` +
      `in ${progress.seconds.toFixed(1)} s`,
  );
  return summary;

  function openEnds(): Promise<Ends[]> {
    return Promise.all(
      readers.map(async (reader) => ({
        source: reader,
        target: await openOwner(aside, target),
        superuser: await openTarget(aside),
      })),
    );
  }
}

function refuseDifferences(report: Report): void {
  const different = report.tables.filter((proof) => proof.verdict === "different");
  if (different.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      `The copy differs from the source, so it was thrown away; the target is as it was:`,
      ...different.map(({ table, differences }) => `  - ${table}: ${differences?.join("; ")}`),
    ].join("\n"),
  );
}

/**
 * Ends the import where the copy's schema is not the source's: something is missing, too much, or means something else. Another
 * wording of the same is no difference, between servers of one version or of two.
 */
function refuseSchemaDifferences(
  report: Report,
  differences: StateDifference[],
  facts: FactDifference[],
  { refused }: Rewordings,
): void {
  const fatal = [...differences, ...facts.filter(({ tolerable }) => !tolerable)];
  const sequences = report.sequences.filter((sequence) => sequence.source !== sequence.target);
  const lines = [
    ...fatal.map(({ object, how }) => `  - ${object}: ${how}`),
    ...refused.map((line) => `  - ${line}`),
    ...sequences.map((s) => `  - sequence ${s.name}: ${s.source} on the source, ${s.target} on the target`),
  ];
  if (lines.length > 0) {
    report.verdict = "different";
    throw new Error(
      `The copy's schema differs from the source's, so it was thrown away; the target is as it was:\n${lines.join("\n")}`,
    );
  }
  for (const { object, how, tolerable } of facts) if (tolerable) report.remarks.push(`${object}: ${how}`);
}

/** All that was copied belongs to one role, whoever owned it on the source. */
async function refuseStrangers(report: Report, target: pg.Client, owner: string): Promise<void> {
  const strangers = await findStrangers(target, owner);
  if (strangers.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      `Not everything in the copy belongs to ${owner}, so it was thrown away; the target is as it was:`,
      ...strangers.map((stranger) => `  - ${stranger.object} belongs to ${stranger.owner}`),
    ].join("\n"),
  );
}

/** Nobody may do more here than on the source, where somebody has decided what he may. */
async function refuseLooser(report: Report, source: pg.Client, target: pg.Client): Promise<void> {
  const left = await readRestrictions(ROLES, source, target);
  if (left.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      "Privileges in the copy are not as on the source, so it was thrown away; the target is as it was:",
      ...left.map((restriction) => `  - ${restriction.object}: ${describeRestriction(restriction)}`),
    ].join("\n"),
  );
}

function summarise(source: string, report: Report, progress: Progress): ImportSummary {
  const hash = createHash("sha256");
  for (const { table, rows, target } of [...report.tables].sort((a, b) => (a.table < b.table ? -1 : 1))) {
    hash.update(`${table} ${rows} ${target}\n`);
  }
  if (report.largeObjects) hash.update(`large objects ${report.largeObjects.target}\n`);
  const butFor = describeSelection(report.tables);
  return {
    source,
    finishedAt: new Date().toISOString(),
    tables: report.tables.length,
    rows: report.rows,
    bytes: report.bytes,
    seconds: Math.round(progress.seconds * 10) / 10,
    fingerprint: hash.digest("hex"),
    ...(butFor !== "" && { butFor }),
    ...(report.safetyCopy && {
      safetyCopy: { name: report.safetyCopy.name, sha256: report.safetyCopy.sha256 },
    }),
  };
}

function describeCopy({ path, bytes, sha256, verified }: SafetyCopyFacts): string {
  const proof =
    verified === "decrypted"
      ? "decrypted again and found to hold what the source sent"
      : "written as intended; whether it opens was not tried, for its identity is not on this machine";
  return `import: safety copy ${path}, ${humanBytes(bytes)}, SHA-256 ${sha256}, ${proof}`;
}
