/** Compares two databases, each in one exported snapshot, by fingerprints and definitions that their servers compute. */
import type pg from "pg";
import { runTasks } from "../../../lib/schedule.ts";
import { type Baseline, completeEntry, positionOf, rowsOf } from "../rows/baseline.ts";
import {
  assertLargeObjectsReadable,
  describeLargeObjects,
  digestLargeObjects,
  findLargeObjectDifferences,
  LARGE_OBJECTS,
} from "../rows/large-objects.ts";
import { describeSet, findDifferences, type SetFingerprint, setFingerprint } from "../rows/proof.ts";
import { describeState } from "../rows/sequences.ts";
import { readFilledViews } from "../rows/views.ts";
import { fromTable, readSequences } from "../schema/catalog.ts";
import { readSettings, settingStates } from "../schema/database-settings.ts";
import { compareFacts, findForeignOwners } from "../schema/facts.ts";
import { describeRestriction, readRestrictions } from "../schema/restrictions.ts";
import { dumpImage } from "../schema/schema.ts";
import { type BaselineEntry, type Change, compareStates, digest, type States, whereChanged } from "../schema/states.ts";
import type { Column, Table } from "../types.ts";
import type { ComparedDatabase } from "./compared-database.ts";
import { type DefinitionServer, differentTexts, findRewordings, statesOf } from "./rewording.ts";

/** An object that differs between source and target. */
export interface Difference {
  /** For instance `rows of public.players`, or `view public.captains`. */
  object: string;
  /** What differs: keys and columns, values, or on which of the two it is missing. */
  details: string[];
  /** Where it has changed since the import, as far as the baseline shows. */
  changed?: Exclude<Change, "nowhere">;
}

/** Result of a comparison. It holds no secret. */
export interface Verification {
  verdict: "equal" | "different";
  source: string;
  target: string;
  startedAt: string;
  seconds: number;
  /** Numbers of compared objects. */
  tables: number;
  rows: number;
  sequences: number;
  definitions: number;
  differences: Difference[];
  /** Differences that the import had and accepted. */
  remarks: string[];
}

/** Options of a comparison. */
export interface VerifyOptions {
  /** The import's baseline; without it, the comparison cannot tell whether the source or the target has changed. */
  baseline: Baseline | undefined;
  /** Role that must own everything on the target. */
  owner: string;
  /** Roles whose privileges are compared. */
  roles: readonly string[];
  /** Images with pg_dump, as for an import. */
  image: string;
  newerImage: string;
  /**
   * Provides a server on which definitions with different texts are restored, to see whether only the wording differs. Called only if
   * there are any. Without it, a different text counts as a difference, unless the baseline has it as reworded.
   */
  withServer?: <T>(work: (server: DefinitionServer) => Promise<T>) => Promise<T>;
  say: (line: string) => void;
}

/** Collects differences, and compares each with the baseline. */
class Findings {
  readonly differences: Difference[] = [];
  readonly remarks: string[] = [];
  private readonly baseline: Baseline | undefined;

  constructor(baseline: Baseline | undefined) {
    this.baseline = baseline;
  }

  /** @param now both states, in the baseline's form. */
  add(object: string, now: { source?: string; target?: string }, details: string[]): void {
    const changed = this.baseline && whereChanged(this.baseline.get(object) ?? {}, now);
    if (changed === "nowhere") this.remarks.push(`${object}: ${details.join("; ")}, as at the import`);
    else this.differences.push({ object, details, ...(changed ? { changed } : {}) });
  }

  /** Adds the differences between the states of source and target. */
  addStates(source: States, target: States, same: ReadonlySet<string> = new Set()): void {
    for (const { object, how } of compareStates(source, target)) {
      if (!same.has(object)) this.add(object, digestsOf(object, source, target), [how]);
    }
  }

  /** Returns whether the import found both definitions to mean the same, and neither has changed since. */
  isReworded(object: string, source: States, target: States): boolean {
    const entry = this.baseline?.get(object);
    return entry?.reworded === true && whereChanged(entry, digestsOf(object, source, target)) === "nowhere";
  }
}

/** Returns the states of an object on source and target, in the baseline's form. */
function digestsOf(object: string, source: States, target: States): { source?: string; target?: string } {
  const [theirs, ours] = [source, target].map((states) => {
    const state = states.get(object);
    return state === undefined ? undefined : digest(state);
  });
  return { source: theirs, target: ours };
}

/** One relation whose rows are compared. */
interface Subject {
  relation: Pick<Table, "schema" | "name" | "sql" | "throughRoot">;
  /** A table's columns on source and target. A view's rows are compared whole. */
  columns?: { source: Column[]; target: Column[] };
  /** The table on the source, whose key names rows. */
  table?: Table;
  /** The table on the target. */
  twin?: Table;
  bytes: number;
}

/**
 * Compares two databases: definitions, what pg_dump leaves out, sequences and rows. Both are only read. Only fingerprints of the rows
 * cross the wire; if those differ, also hashes of groups of rows, and the keys of some rows.
 */
export async function compareDatabases(
  source: ComparedDatabase,
  target: ComparedDatabase,
  options: VerifyOptions,
): Promise<Verification> {
  const { baseline, say } = options;
  const start = Date.now();
  const findings = new Findings(baseline);
  const [theirs, ours] = [source.sessions[0] as pg.Client, target.sessions[0] as pg.Client];

  say("comparing the definitions, read with the same pg_dump");
  const image = dumpImage(
    Math.max(source.catalog.majorVersion, target.catalog.majorVersion),
    options.image,
    options.newerImage,
  );
  const definitions = await compareDefinitions(source, target, image, options, findings);
  await compareBeyondDump(source, target, findings);
  const [theirSettings, ourSettings] = await Promise.all([readSettings(theirs), readSettings(ours)]);
  findings.addStates(settingStates(theirSettings), settingStates(ourSettings));
  await compareAccess(theirs, ours, options, findings);
  const sequences = await compareSequences(source, target, findings);
  await compareLargeObjects(source, target, findings);

  const subjects = await findSubjects(source, target);
  say(`comparing the rows of ${subjects.length} tables and materialized views`);
  const rows = await compareRows(subjects, source, target, findings, baseline);

  return {
    verdict: findings.differences.length === 0 ? "equal" : "different",
    source: source.label,
    target: target.label,
    startedAt: new Date(start).toISOString(),
    seconds: (Date.now() - start) / 1000,
    tables: subjects.length,
    rows,
    sequences,
    definitions,
    differences: findings.differences,
    remarks: findings.remarks,
  };
}

/** Returns the number of the source's definitions. */
async function compareDefinitions(
  source: ComparedDatabase,
  target: ComparedDatabase,
  image: string,
  { withServer, say }: VerifyOptions,
  findings: Findings,
): Promise<number> {
  const [theirDump, ourDump] = await Promise.all([source.definitions(image), target.definitions(image)]);
  const [theirs, ours] = [statesOf(theirDump), statesOf(ourDump)];
  const different = differentTexts(compareStates(theirs, ours));
  const known = different.filter((object) => findings.isReworded(object, theirs, ours));
  const unknown = different.filter((object) => !known.includes(object));
  const find = async (server: DefinitionServer) => {
    const [their, our] = [source.sessions[0] as pg.Client, target.sessions[0] as pg.Client];
    say(`restoring ${unknown.length} definitions whose texts differ, to compare how PostgreSQL words them`);
    return findRewordings(unknown, {
      server,
      image,
      source: { dump: theirDump, catalog: source.catalog, settings: await readSettings(their), session: their },
      target: { states: ours, session: our },
      changed: { dump: ourDump, catalog: target.catalog, settings: await readSettings(our) },
    });
  };
  const found = unknown.length > 0 && withServer ? (await withServer(find)).proven : [];
  findings.addStates(theirs, ours, new Set([...known, ...found]));
  return theirs.size;
}

async function compareBeyondDump(
  source: ComparedDatabase,
  target: ComparedDatabase,
  findings: Findings,
): Promise<void> {
  const [theirs, ours] = await Promise.all([source.facts(), target.facts()]);
  for (const { object, how } of compareFacts(theirs, ours)) {
    findings.add(object, { source: theirs.get(object), target: ours.get(object) }, [how]);
  }
}

/** Checks owners and restrictions on the target. These rules hold only there, so a violation means that the target was changed. */
async function compareAccess(
  source: pg.Client,
  target: pg.Client,
  { owner, roles }: VerifyOptions,
  findings: Findings,
): Promise<void> {
  for (const other of await findForeignOwners(target, owner)) {
    findings.differences.push({
      object: `owner of ${other.object}`,
      details: [`${other.owner} on the target, where ${owner} should own everything`],
    });
  }
  for (const restriction of await readRestrictions(roles, source, target)) {
    findings.differences.push({
      object: `privileges on ${restriction.object}`,
      details: [describeRestriction(restriction)],
    });
  }
}

async function compareSequences(
  source: ComparedDatabase,
  target: ComparedDatabase,
  findings: Findings,
): Promise<number> {
  const there = new Set(target.catalog.sequences);
  const names = source.catalog.sequences.filter((name) => there.has(name));
  const [theirs, ours] = await Promise.all(
    [source, target].map(async ({ sessions }) => {
      const states = await readSequences(sessions[0] as pg.Client, names);
      return new Map(states.map((state) => [positionOf(state.name), describeState(state)]));
    }),
  );
  for (const { object } of compareStates(theirs ?? new Map(), ours ?? new Map())) {
    const now = { source: theirs?.get(object), target: ours?.get(object) };
    findings.add(object, now, [`${now.source} on the source, ${now.target} on the target`]);
  }
  return names.length;
}

/** Compares the digests of all large objects; each server computes its own. Only if they differ are single objects compared. */
async function compareLargeObjects(
  source: ComparedDatabase,
  target: ComparedDatabase,
  findings: Findings,
): Promise<void> {
  const [there, here] = [source.sessions[0] as pg.Client, target.sessions[0] as pg.Client];
  await assertLargeObjectsReadable(there, source.label);
  await assertLargeObjectsReadable(here, target.label);
  const [theirs, ours] = await Promise.all([digestLargeObjects(there), digestLargeObjects(here)]);
  const now = { source: describeLargeObjects(theirs), target: describeLargeObjects(ours) };
  if (now.source === now.target) return;
  findings.add(LARGE_OBJECTS, now, await findLargeObjectDifferences(there, here));
}

/** Returns the tables and the filled materialized views that both databases have. What only one has is a different definition. */
async function findSubjects(source: ComparedDatabase, target: ComparedDatabase): Promise<Subject[]> {
  const here = new Map(target.catalog.tables.map((table) => [table.sql, table]));
  const tables = source.catalog.tables.flatMap((table): Subject[] => {
    const twin = here.get(table.sql);
    if (twin === undefined) return [];
    return [
      { relation: table, columns: { source: table.columns, target: twin.columns }, table, twin, bytes: table.bytes },
    ];
  });
  const [theirs = [], ours = []] = await Promise.all(
    [source, target].map(({ sessions }) => readFilledViews(sessions[0] as pg.Client)),
  );
  const filled = new Set(ours.map(({ sql }) => sql));
  const views = theirs.filter(({ sql }) => filled.has(sql)).map((relation): Subject => ({ relation, bytes: 0 }));
  return [...tables, ...views];
}

const namesOf = (columns: readonly Column[] = []): string[] => columns.map(({ name }) => name);

/** Returns the number of rows on the target. */
async function compareRows(
  subjects: Subject[],
  source: ComparedDatabase,
  target: ComparedDatabase,
  findings: Findings,
  baseline: Baseline | undefined,
): Promise<number> {
  let rows = 0;
  const slots = source.sessions.map((session, index) => ({
    source: session,
    target: target.sessions[index] as pg.Client,
  }));
  const tasks = subjects.map((subject) => ({
    name: subject.relation.sql,
    after: [],
    cost: subject.bytes,
    run: async (ends: { source: pg.Client; target: pg.Client }) => {
      let entry = baseline?.get(rowsOf(subject.relation));
      if (baseline && subject.twin && entry?.selected) {
        await completeEntry(baseline, subject.twin, ends.target);
        entry = baseline.get(rowsOf(subject.relation));
      }
      const found = await (entry?.selected
        ? compareWithBaseline(subject, ends.target, entry)
        : compareSubject(subject, ends, entry));
      rows += found.rows;
      if (!found.differs) return;
      if (baseline && subject.twin) await completeEntry(baseline, subject.twin, ends.target);
      findings.add(rowsOf(subject.relation), found.now, found.details);
    },
  }));
  await runTasks(tasks, slots);
  findings.differences.sort((a, b) => (a.object < b.object ? -1 : Number(a.object > b.object)));
  return rows;
}

/** Result of comparing one relation's rows. */
type Found =
  | { differs: false; rows: number }
  | { differs: true; rows: number; now: { source?: string; target?: string }; details: string[] };

/** Compares selected rows with the baseline, because masked or excluded rows cannot equal the source's. */
async function compareWithBaseline(
  { relation, columns }: Subject,
  target: pg.Client,
  entry: BaselineEntry,
): Promise<Found> {
  const rows = await setFingerprint(fromTable(relation), target, columns?.target);
  const sameColumns = columns === undefined || entry.columns === undefined;
  const now = {
    target: sameColumns ? describeSet(rows) : await inColumns(relation, target, columns.target, entry.columns ?? []),
  };
  return { differs: true, rows: rows.rows, now, details: [`not compared with the source: ${entry.selected}`] };
}

/** Compares one relation's rows in the columns that source and target share. */
async function compareSubject(
  { relation, columns, table }: Subject,
  { source, target }: { source: pg.Client; target: pg.Client },
  entry: BaselineEntry | undefined,
): Promise<Found> {
  const shared = columns?.source.filter(({ name }) => columns.target.some((other) => other.name === name));
  const [theirs, ours] = await Promise.all([
    setFingerprint(fromTable(relation), source, shared),
    setFingerprint(fromTable(relation), target, shared),
  ]);
  const now = { source: describeSet(theirs), target: describeSet(ours) };
  if (now.source === now.target) return { differs: false, rows: ours.rows };

  const details = [...countsDiffer(theirs, ours)];
  if (table && shared) {
    const withoutMissing = {
      ...table,
      key: table.key.every((name) => namesOf(shared).includes(name)) ? table.key : [],
    };
    details.push(...(await findDifferences(withoutMissing, theirs.rows, source, target, shared)));
  }
  // The baseline covers the columns at the import. If they differ from today's, the rows are fingerprinted again in those columns.
  if (columns && entry?.columns && entry.columns.join("\n") !== namesOf(shared).join("\n")) {
    now.source = await inColumns(relation, source, columns.source, entry.columns);
    now.target = await inColumns(relation, target, columns.target, entry.columns);
  }
  return { differs: true, rows: ours.rows, now, details };
}

const countsDiffer = (theirs: SetFingerprint, ours: SetFingerprint): string[] =>
  theirs.rows === ours.rows ? [] : [`${theirs.rows} rows on the source, ${ours.rows} on the target`];

/** Returns the state of rows in the baseline's columns. If a column is missing now, the rows count as changed. */
async function inColumns(relation: Subject["relation"], client: pg.Client, present: Column[], names: string[]) {
  const columns = names.flatMap((name) => present.find((column) => column.name === name) ?? []);
  if (columns.length < names.length) return "other columns";
  return describeSet(await setFingerprint(fromTable(relation), client, columns));
}
