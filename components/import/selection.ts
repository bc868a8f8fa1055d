/** Which rows and values of the source come along: the settings, held against what the source really has. */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";
import { fromTable } from "./catalog.ts";
import { type MaskedColumn, maskProblem, maskSql } from "./masks.ts";
import { type ForeignKey, type Relation, readForeignKeys, readRelations } from "./relations.ts";
import type { Mask, SelectionSettings, SubsetRoot } from "./selection-settings.ts";
import { addressArray, findSubset } from "./subset.ts";
import type { SelectedRows, SelectedVerdict, Table, TableProof } from "./types.ts";

/** Its row says which schema this is. Without it, an application would migrate a schema that is there already. */
const SCHEMA_VERSION = "alembic_version";

/** What is done with one table. */
interface Choice {
  excluded: boolean;
  root: SubsetRoot | undefined;
  masks: Map<string, Mask>;
}

/**
 * Holds the settings against the source and returns its tables, each with what is selected of it.
 * Reads on the source alone, in the snapshot's own session.
 * @throws {Error} that lists everything that does not fit, with its remedy.
 */
export async function selectRows(
  tables: readonly Table[],
  settings: SelectionSettings,
  source: pg.Client,
): Promise<Table[]> {
  if (settings.schemaOnly) {
    return tables.map((table) => (table.name === SCHEMA_VERSION ? table : withoutRows(table, "schema only")));
  }
  const relations = await readRelations(source, tables);
  const { choices, problems } = choose(relations, settings);
  // A column that is masked as NULL refers to nothing.
  const isNull = (table: string, column: string) => choices.get(table)?.masks.get(column)?.kind === "null";
  const keys = (await readForeignKeys(source)).filter(
    ({ child, pairs }) => !pairs.some((pair) => isNull(child, pair.child)),
  );
  problems.push(...checkMasks(relations, keys, choices));
  const excluded = new Set([...choices].flatMap(([sql, { excluded: out }]) => (out ? [sql] : [])));
  const roots = new Map(
    relations.flatMap(({ table }) => {
      const root = choices.get(table.sql)?.root;
      return root ? [[table.sql, { root, table }] as const] : [];
    }),
  );
  if (settings.subset.length > 0) problems.push(...notFollowed(relations, excluded));
  if (problems.length > 0) throw refusal(problems);
  const kept = await findSubset(source, { roots, keys, excluded });
  problems.push(...(await findLost(source, relations, keys, excluded, kept)));
  if (problems.length > 0) throw refusal(problems);
  const columns = sharedColumns(relations, keys);
  return relations.map(({ table }) => {
    const choice = choices.get(table.sql);
    if (choice?.excluded) return withoutRows(table, "excluded");
    return selectFrom(table, choice, kept.get(table.sql), columns);
  });
}

/** What tables are not the source's, in a few words; empty where all are. */
export function describeSelection(proofs: readonly Pick<TableProof, "verdict">[]): string {
  const words: [SelectedVerdict, string, string][] = [
    ["masked", "table that is masked", "tables that are masked"],
    ["subset", "table that is a subset", "tables that are subsets"],
    ["masked subset", "table that is a masked subset", "tables that are masked subsets"],
    ["excluded", "table whose rows were excluded", "tables whose rows were excluded"],
    ["schema only", "table of which only the schema came", "tables of which only the schema came"],
  ];
  return words
    .map(([verdict, one, many]) => {
      const number = proofs.filter((proof) => proof.verdict === verdict).length;
      return number > 0 ? `${number} ${number === 1 ? one : many}` : "";
    })
    .filter(Boolean)
    .join(", ");
}

const refusal = (problems: readonly string[]) =>
  new Error(
    `What is to be imported does not fit the source, and nothing was changed:\n${problems.map((p) => `  - ${p}`).join("\n")}`,
  );

/** A subset is a set of row addresses, and those of a partitioned table are its partitions' own. */
const notFollowed = (relations: readonly Relation[], excluded: ReadonlySet<string>): string[] =>
  relations
    .filter(({ table }) => table.throughRoot && !excluded.has(table.sql))
    .map(
      ({ table }) =>
        `importSubset cannot follow ${table.schema}.${table.name}, whose rows may belong to other partitions on the target; ` +
        `exclude it (importExclude), or import without a subset`,
    );

const copied = (table: Table) => table.columns.filter(({ generated }) => !generated);

function withoutRows(table: Table, verdict: SelectedVerdict): Table {
  const list = copied(table).map(({ name }) => ident(name));
  const query = `SELECT ${list.join(", ")} FROM ${fromTable(table)} WHERE false`;
  return { ...table, bytes: 0, selected: { query, verdict, what: "no rows" } };
}

function selectFrom(
  table: Table,
  choice: Choice | undefined,
  rows: ReadonlySet<number> | undefined,
  columns: ReadonlyMap<string, MaskedColumn>,
): Table {
  const masks = choice?.masks ?? new Map<string, Mask>();
  if (rows === undefined && masks.size === 0) return table;
  const list = copied(table).map(({ name }) => {
    const mask = masks.get(name);
    const column = columns.get(columnKey(table.sql, name));
    return mask && column ? `${maskSql(mask.kind, column, mask.value)} AS ${ident(name)}` : ident(name);
  });
  const where = rows === undefined ? "" : ` WHERE ctid = ANY ('${addressArray(rows)}'::tid[])`;
  const query = `SELECT ${list.join(", ")} FROM ${fromTable(table)}${where}`;
  const verdict: SelectedVerdict = rows === undefined ? "masked" : masks.size === 0 ? "subset" : "masked subset";
  const what = [
    rows &&
      `${rows.size.toLocaleString("en")} rows: ${choice?.root ? `"${choice.root.setting}", and what the subset refers to` : "what belongs to the subset"}`,
    ...[...masks.values()].map(({ column, kind }) => `${column} masked (${kind})`),
  ];
  const selected: SelectedRows = { query, verdict, what: what.filter(Boolean).join("; ") };
  return { ...table, selected };
}

/** Pattern with * for any characters, schema.table or table, as a test of a table's names. */
function matcher(pattern: string): (relation: Relation) => boolean {
  const dot = pattern.indexOf(".");
  const [schema, name] = dot < 0 ? [undefined, pattern] : [pattern.slice(0, dot), pattern.slice(dot + 1)];
  const regex = (text: string) => new RegExp(`^${text.split("*").map(RegExp.escape).join(".*")}$`, "s");
  const [schemaFits, nameFits] = [schema === undefined ? undefined : regex(schema), regex(name)];
  return ({ names }) => names.some((own) => nameFits.test(own.name) && (schemaFits?.test(own.schema) ?? true));
}

/** Deals the settings out to tables; with a problem for everything that names none, or that contradicts itself. */
export function choose(relations: readonly Relation[], settings: SelectionSettings) {
  const problems: string[] = [];
  const choices = new Map<string, Choice>();
  const choiceFor = ({ table }: Relation) => {
    const choice = choices.get(table.sql) ?? { excluded: false, root: undefined, masks: new Map<string, Mask>() };
    choices.set(table.sql, choice);
    return choice;
  };
  /** Tables of one name: one, or the parts of one that is partitioned. */
  const find = (setting: string, name: string): Relation[] => {
    const found = relations.filter(matcher(name));
    if (found.length === 0) problems.push(`${setting}: the source has no table ${name}`);
    const schemas = new Set(
      found.flatMap(({ names }) => names.filter((own) => own.name === name).map(({ schema }) => schema)),
    );
    if (schemas.size <= 1) return found;
    problems.push(
      `${setting}: ${name} is in the schemas ${[...schemas].sort().join(", ")}; write which, as in ${[...schemas].sort()[0]}.${name}`,
    );
    return [];
  };
  for (const pattern of settings.exclude) {
    const found = relations.filter(matcher(pattern));
    if (found.length === 0) problems.push(`importExclude "${pattern}": the source has no such table`);
    for (const relation of found) choiceFor(relation).excluded = true;
  }
  for (const root of settings.subset) {
    for (const relation of find(`importSubset "${root.setting}"`, root.table)) {
      const choice = choiceFor(relation);
      if (choice.excluded)
        problems.push(
          `importSubset "${root.setting}": importExclude leaves all rows of that table behind; take one of the two out`,
        );
      if (choice.root)
        problems.push(
          `importSubset names ${root.table} twice: "${choice.root.setting}" and "${root.setting}"; put them into one condition`,
        );
      choice.root = root;
    }
  }
  for (const mask of settings.masks) {
    for (const relation of find(`importMasks "${mask.setting}"`, mask.table)) {
      const choice = choiceFor(relation);
      const other = choice.masks.get(mask.column);
      if (other)
        problems.push(
          `importMasks has two masks for ${mask.table}.${mask.column}: ${other.kind} and ${mask.kind}; leave one`,
        );
      if (choice.excluded)
        problems.push(
          `importMasks "${mask.setting}": importExclude leaves all rows of that table behind; take one of the two out`,
        );
      choice.masks.set(mask.column, mask);
    }
  }
  return { choices, problems: [...new Set(problems)] };
}

const columnKey = (table: string, column: string) => JSON.stringify([table, column]);

/**
 * Columns that foreign keys tie to each other, under one description: a mask of them must give one result, so it keeps to the
 * narrowest of them, and differs from value to value if it must in any of them.
 */
function sharedColumns(relations: readonly Relation[], keys: readonly ForeignKey[]): Map<string, MaskedColumn> {
  const shared = new Map<string, MaskedColumn>();
  const all = new Map(
    relations.flatMap(({ table, columns }) =>
      columns.map((column) => [columnKey(table.sql, column.name), column] as const),
    ),
  );
  const groups = groupsOf(keys);
  for (const [key, column] of all) {
    const tied = [...(groups.get(key) ?? [key])].map((other) => all.get(other)).filter((other) => other !== undefined);
    const lengths = tied.flatMap(({ maxLength }) => maxLength ?? []);
    shared.set(key, {
      ...column,
      maxLength: lengths.length > 0 ? Math.min(...lengths) : undefined,
      unique: tied.some(({ unique }) => unique),
    });
  }
  return shared;
}

/** For every column of a foreign key, all columns that are tied to it, itself among them. */
function groupsOf(keys: readonly ForeignKey[]): Map<string, Set<string>> {
  const groups = new Map<string, Set<string>>();
  for (const { child, parents, pairs } of keys) {
    for (const pair of pairs) {
      const tied = [columnKey(child, pair.child), ...parents.map((parent) => columnKey(parent, pair.parent))];
      const union = new Set(tied.flatMap((key) => [...(groups.get(key) ?? [key])]));
      for (const key of union) groups.set(key, union);
    }
  }
  return groups;
}

function checkMasks(
  relations: readonly Relation[],
  keys: readonly ForeignKey[],
  choices: ReadonlyMap<string, Choice>,
): string[] {
  const problems: string[] = [];
  const shared = sharedColumns(relations, keys);
  const maskOf = (key: string) => {
    const [table, column] = JSON.parse(key);
    return { table, column, choice: choices.get(table), mask: choices.get(table)?.masks.get(column) };
  };
  const groups = groupsOf(keys);
  for (const { table, names } of relations) {
    for (const [name, mask] of choices.get(table.sql)?.masks ?? []) {
      const said = `importMasks "${mask.setting}"`;
      const key = columnKey(table.sql, name);
      const column = shared.get(key);
      const own = table.columns.find((other) => other.name === name);
      if (column === undefined || own === undefined) {
        problems.push(
          `${said}: ${names[0]?.schema}.${names[0]?.name} has no column ${name}; it has ${table.columns.map((other) => other.name).join(", ")}`,
        );
        continue;
      }
      if (own.generated) {
        problems.push(`${said}: the column is computed from others, so it is masked with them; mask those`);
        continue;
      }
      const problem = maskProblem(mask.kind, column);
      if (problem !== undefined) problems.push(`${said}: ${problem}`);
      for (const tied of groups.get(key) ?? []) {
        const other = maskOf(tied);
        if (other.choice?.excluded || mask.kind === "null") continue;
        const same = other.mask?.kind === mask.kind && other.mask.value === mask.value;
        const label = `${other.table.replaceAll('"', "")}.${other.column}`;
        if (!same) {
          problems.push(
            `${said}: a foreign key ties the column to ${label}, which must be masked the same way: add "${label} = ${mask.setting.split("=").slice(1).join("=").trim()}"`,
          );
        } else if (shared.get(tied)?.base !== column.base) {
          problems.push(
            `${said}: a foreign key ties the column to ${label}, which is of another type, so no mask fits both`,
          );
        }
      }
    }
  }
  return [...new Set(problems)];
}

/** Rows that come along and refer to rows that do not: their foreign key could not be made. */
async function findLost(
  source: pg.Client,
  relations: readonly Relation[],
  keys: readonly ForeignKey[],
  excluded: ReadonlySet<string>,
  kept: ReadonlyMap<string, ReadonlySet<number>>,
): Promise<string[]> {
  const problems: string[] = [];
  for (const { name, child, parents, pairs } of keys) {
    if (excluded.has(child)) continue;
    for (const parent of parents.filter((table) => excluded.has(table))) {
      const on = pairs.map((pair) => `p.${ident(pair.parent)} ${pair.operator} c.${ident(pair.child)}`).join(" AND ");
      const rows = kept.get(child);
      const among = rows === undefined ? "" : ` WHERE c.ctid = ANY ('${addressArray(rows)}'::tid[])`;
      const found = await source.query<{ n: number }>(
        `SELECT count(*)::float8 AS n FROM ONLY ${child} c JOIN ONLY ${parent} p ON ${on}${among}`,
      );
      const lost = found.rows[0]?.n ?? 0;
      if (lost === 0) continue;
      const label = (sql: string) => sql.replaceAll('"', "");
      const columns = relations.find(({ table }) => table.sql === child)?.columns ?? [];
      const optional = pairs.filter((pair) => columns.some((column) => column.name === pair.child && !column.notNull));
      const mask = optional.length > 0 && `mask ${label(child)}.${optional[0]?.child} as null, `;
      problems.push(
        `importExclude leaves the rows of ${label(parent)} behind, but ${lost.toLocaleString("en")} rows of ${label(child)} refer to them ` +
          `(foreign key ${name}). Exclude ${label(child)} too, ${mask || ""}or take a subset instead ` +
          `("${label(parent)} where false" in importSubset leaves behind what refers to it)`,
      );
    }
  }
  return problems;
}
