/** The proof again, at any time: two databases, each at one moment, compared by what their servers say of themselves. */
import type pg from "pg";
import { fromTable, readSequences } from "./catalog.ts";
import { readSettings, settingStates } from "./database-settings.ts";
import { compareFacts, findStrangers } from "./facts.ts";
import {
  assertLargeObjectsReadable,
  describeLargeObjects,
  digestLargeObjects,
  findLargeObjectDifferences,
  LARGE_OBJECTS,
} from "./large-objects.ts";
import { describeSet, findDifferences, type SetFingerprint, setFingerprint } from "./proof.ts";
import { completeNote, type ImportRecord, positionOf, rowsOf } from "./record.ts";
import { describeRestriction, readRestrictions } from "./restrictions.ts";
import { differentTexts, findRewordings, type ScratchServer, statesOf } from "./rewording.ts";
import { runTasks } from "./schedule.ts";
import { dumpImage } from "./schema.ts";
import { describeState } from "./sequences.ts";
import type { Side } from "./side.ts";
import { type Change, compareStates, digest, type Noted, type States, whoChanged } from "./states.ts";
import type { Column, Table } from "./types.ts";
import { readFilledViews } from "./views.ts";

/** Something that is not the same on both sides. */
export interface Difference {
  /** For instance `rows of public.players`, or `view public.captains`. */
  object: string;
  /** What differs about it: keys and columns, values, or in which direction. */
  details: string[];
  /** Where it has changed since the import, as far as the import's record tells. */
  changed?: Exclude<Change, "nowhere">;
}

/** What a comparison found. It holds no secret. */
export interface Verification {
  verdict: "equal" | "different";
  source: string;
  target: string;
  startedAt: string;
  seconds: number;
  /** What was compared. */
  tables: number;
  rows: number;
  sequences: number;
  definitions: number;
  differences: Difference[];
  /** What differs, but did so at the import, where it was accepted. */
  remarks: string[];
}

/** What a comparison needs to know beside its sides. */
export interface VerifyOptions {
  /** The import's own record; without it, nobody can tell who has changed. */
  record: ImportRecord | undefined;
  /** Role that everything on the target belongs to. */
  owner: string;
  /** Roles whose restrictions are kept. */
  roles: readonly string[];
  /** Images with pg_dump, as for an import. */
  image: string;
  newerImage: string;
  /**
   * Lends the server on which definitions are restored that differ in their text alone, perhaps. Asked only where there are any.
   * Without it, definitions count as different whose text differs, unless the record has them as worded anew.
   */
  withScratch?: <T>(work: (server: ScratchServer) => Promise<T>) => Promise<T>;
  say: (line: string) => void;
}

/** Gathers differences, and judges each by what the import noted. */
class Findings {
  readonly differences: Difference[] = [];
  readonly remarks: string[] = [];
  private readonly record: ImportRecord | undefined;

  constructor(record: ImportRecord | undefined) {
    this.record = record;
  }

  /** @param now both states, in the record's words. */
  add(object: string, now: { source?: string; target?: string }, details: string[]): void {
    const changed = this.record && whoChanged(this.record.get(object) ?? {}, now);
    if (changed === "nowhere") this.remarks.push(`${object}: ${details.join("; ")}, as at the import`);
    else this.differences.push({ object, details, ...(changed ? { changed } : {}) });
  }

  /** Adds what differs between two sides' states. */
  addStates(source: States, target: States, same: ReadonlySet<string> = new Set()): void {
    for (const { object, how } of compareStates(source, target)) {
      if (!same.has(object)) this.add(object, digestsOf(object, source, target), [how]);
    }
  }

  /** Whether the import has found both sides to mean the same, and neither has moved since. */
  isReworded(object: string, source: States, target: States): boolean {
    const noted = this.record?.get(object);
    return noted?.reworded === true && whoChanged(noted, digestsOf(object, source, target)) === "nowhere";
  }
}

/** Both sides' states of an object, in the record's words. */
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
  /** For tables: their columns on either side. A view's rows are compared whole. */
  columns?: { source: Column[]; target: Column[] };
  /** For naming rows. */
  table?: Table;
  /** The table as it is on the target. */
  twin?: Table;
  bytes: number;
}

/**
 * Compares two sides: definitions and what pg_dump leaves out, sequences, rows. Nothing is written on either. Rows do not
 * cross the wire, only their fingerprints; where those differ, hashes of groups of rows do, and the keys of some.
 */
export async function compareSides(source: Side, target: Side, options: VerifyOptions): Promise<Verification> {
  const { record, say } = options;
  const start = Date.now();
  const findings = new Findings(record);
  const [theirs, ours] = [source.sessions[0] as pg.Client, target.sessions[0] as pg.Client];

  say("the definitions of both, as one pg_dump writes them");
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
  say(`the rows of ${subjects.length} tables and materialised views`);
  const rows = await compareRows(subjects, source, target, findings, record);

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
  source: Side,
  target: Side,
  image: string,
  { withScratch, say }: VerifyOptions,
  findings: Findings,
): Promise<number> {
  const [theirDump, ourDump] = await Promise.all([source.definitions(image), target.definitions(image)]);
  const [theirs, ours] = [statesOf(theirDump), statesOf(ourDump)];
  const different = differentTexts(compareStates(theirs, ours));
  const known = different.filter((object) => findings.isReworded(object, theirs, ours));
  const unknown = different.filter((object) => !known.includes(object));
  const find = async (server: ScratchServer) => {
    const [their, our] = [source.sessions[0] as pg.Client, target.sessions[0] as pg.Client];
    say(`${unknown.length} definitions that differ, as PostgreSQL words both when they are restored`);
    return findRewordings(unknown, {
      server,
      image,
      source: { dump: theirDump, catalog: source.catalog, settings: await readSettings(their), session: their },
      target: { states: ours, session: our },
      changed: { dump: ourDump, catalog: target.catalog, settings: await readSettings(our) },
    });
  };
  const found = unknown.length > 0 && withScratch ? (await withScratch(find)).proven : [];
  findings.addStates(theirs, ours, new Set([...known, ...found]));
  return theirs.size;
}

async function compareBeyondDump(source: Side, target: Side, findings: Findings): Promise<void> {
  const [theirs, ours] = await Promise.all([source.facts(), target.facts()]);
  for (const { object, how } of compareFacts(theirs, ours)) {
    findings.add(object, { source: theirs.get(object), target: ours.get(object) }, [how]);
  }
}

/** Owners and restrictions are rules for the target alone: it follows them, or it was changed. */
async function compareAccess(
  source: pg.Client,
  target: pg.Client,
  { owner, roles }: VerifyOptions,
  findings: Findings,
): Promise<void> {
  for (const stranger of await findStrangers(target, owner)) {
    findings.differences.push({
      object: `owner of ${stranger.object}`,
      details: [`${stranger.owner} on the target, where all belongs to ${owner}`],
    });
  }
  for (const restriction of await readRestrictions(roles, source, target)) {
    findings.differences.push({
      object: `privileges on ${restriction.object}`,
      details: [describeRestriction(restriction)],
    });
  }
}

async function compareSequences(source: Side, target: Side, findings: Findings): Promise<number> {
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

/** Each server computes the digest of its own; only where they differ are the objects' own digests asked for. */
async function compareLargeObjects(source: Side, target: Side, findings: Findings): Promise<void> {
  const [there, here] = [source.sessions[0] as pg.Client, target.sessions[0] as pg.Client];
  await assertLargeObjectsReadable(there, source.label);
  await assertLargeObjectsReadable(here, target.label);
  const [theirs, ours] = await Promise.all([digestLargeObjects(there), digestLargeObjects(here)]);
  const now = { source: describeLargeObjects(theirs), target: describeLargeObjects(ours) };
  if (now.source === now.target) return;
  findings.add(LARGE_OBJECTS, now, await findLargeObjectDifferences(there, here));
}

/** Tables, and materialised views that have been computed, which both sides have. What only one has, is in the definitions. */
async function findSubjects(source: Side, target: Side): Promise<Subject[]> {
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
  source: Side,
  target: Side,
  findings: Findings,
  record: ImportRecord | undefined,
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
      let noted = record?.get(rowsOf(subject.relation));
      if (record && subject.twin && noted?.selected) {
        await completeNote(record, subject.twin, ends.target);
        noted = record.get(rowsOf(subject.relation));
      }
      const found = await (noted?.selected
        ? lookAtSelection(subject, ends.target, noted)
        : compareSubject(subject, ends, noted));
      rows += found.rows;
      if (!found.differs) return;
      if (record && subject.twin) await completeNote(record, subject.twin, ends.target);
      findings.add(rowsOf(subject.relation), found.now, found.details);
    },
  }));
  await runTasks(tasks, slots);
  findings.differences.sort((a, b) => (a.object < b.object ? -1 : Number(a.object > b.object)));
  return rows;
}

/** What came of one relation's rows. */
type Found =
  | { differs: false; rows: number }
  | { differs: true; rows: number; now: { source?: string; target?: string }; details: string[] };

/** Rows that were masked or left out on their way cannot be compared with the source's; but with what they were. */
async function lookAtSelection({ relation, columns }: Subject, target: pg.Client, noted: Noted): Promise<Found> {
  const rows = await setFingerprint(fromTable(relation), target, columns?.target);
  const sameColumns = columns === undefined || noted.columns === undefined;
  const now = {
    target: sameColumns ? describeSet(rows) : await inColumns(relation, target, columns.target, noted.columns ?? []),
  };
  return { differs: true, rows: rows.rows, now, details: [`not compared with the source: ${noted.selected}`] };
}

/** Compares one relation's rows in the columns that both sides have. */
async function compareSubject(
  { relation, columns, table }: Subject,
  { source, target }: { source: pg.Client; target: pg.Client },
  noted: Noted | undefined,
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
  // The record is of the columns of that time: with others, the rows are looked at once more as they were then.
  if (columns && noted?.columns && noted.columns.join("\n") !== namesOf(shared).join("\n")) {
    now.source = await inColumns(relation, source, columns.source, noted.columns);
    now.target = await inColumns(relation, target, columns.target, noted.columns);
  }
  return { differs: true, rows: ours.rows, now, details };
}

const countsDiffer = (theirs: SetFingerprint, ours: SetFingerprint): string[] =>
  theirs.rows === ours.rows ? [] : [`${theirs.rows} rows on the source, ${ours.rows} on the target`];

/** The rows as they were noted; a side that no longer has the columns has changed in any case. */
async function inColumns(relation: Subject["relation"], client: pg.Client, present: Column[], noted: string[]) {
  const columns = noted.flatMap((name) => present.find((column) => column.name === name) ?? []);
  if (columns.length < noted.length) return "other columns";
  return describeSet(await setFingerprint(fromTable(relation), client, columns));
}
