/** Applies the selection settings to the source's tables: which rows are copied, and which columns are masked. */
import type pg from "pg";
import { ident } from "../../../lib/postgres.ts";
import { fromTable } from "../schema/catalog.ts";
import type {
  Mask,
  SelectedRows,
  SelectedVerdict,
  SelectionSettings,
  SubsetRoot,
  Table,
  TableProof,
} from "../types.ts";
import { type MaskedColumn, maskProblem, maskSql } from "./masks.ts";
import { type ForeignKey, type Relation, readForeignKeys, readRelations } from "./relations.ts";
import { addressArray, findSubset } from "./subset.ts";

/** Alembic's table. Its row is always copied; without it, an application would migrate an existing schema again. */
const SCHEMA_VERSION = "alembic_version";

/** The settings that apply to one table. */
interface Choice {
  excluded: boolean;
  root: SubsetRoot | undefined;
  masks: Map<string, Mask>;
}

/**
 * Applies the settings and returns the source's tables, each with its selected rows. Reads only the source.
 * @param source the session that exported the snapshot.
 * @throws {Error} that lists every setting that does not fit the source, with its remedy.
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

/** Describes the tables that are not copied whole; empty if all are. */
export function describeSelection(proofs: readonly Pick<TableProof, "verdict">[]): string {
  const words: [SelectedVerdict, string, string][] = [
    ["masked", "table that is masked", "tables that are masked"],
    ["subset", "table that is a subset", "tables that are subsets"],
    ["masked subset", "table that is a masked subset", "tables that are masked subsets"],
    ["excluded", "table whose rows were excluded", "tables whose rows were excluded"],
    ["schema only", "table whose schema alone was copied", "tables whose schema alone was copied"],
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
    `The selection settings do not fit the source, and nothing was changed:\n${problems.map((p) => `  - ${p}`).join("\n")}`,
  );

/** Returns problems with tables that a subset cannot follow: a row address is valid only within one partition. */
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
      `${rows.size.toLocaleString("en")} rows: ${choice?.root ? `"${choice.root.setting}", and rows that the subset refers to` : "those that belong to the subset"}`,
    ...[...masks.values()].map(({ column, kind }) => `${column} masked (${kind})`),
  ];
  const selected: SelectedRows = { query, verdict, what: what.filter(Boolean).join("; ") };
  return { ...table, selected };
}

/** Returns a test of a table's names against a pattern: schema.table or table, with * for any characters. */
function matcher(pattern: string): (relation: Relation) => boolean {
  const dot = pattern.indexOf(".");
  const [schema, name] = dot < 0 ? [undefined, pattern] : [pattern.slice(0, dot), pattern.slice(dot + 1)];
  const regex = (text: string) => new RegExp(`^${text.split("*").map(RegExp.escape).join(".*")}$`, "s");
  const [schemaFits, nameFits] = [schema === undefined ? undefined : regex(schema), regex(name)];
  return ({ names }) => names.some((own) => nameFits.test(own.name) && (schemaFits?.test(own.schema) ?? true));
}

/** Assigns the settings to tables, and returns a problem for every setting without a table or with a contradiction. */
export function choose(relations: readonly Relation[], settings: SelectionSettings) {
  const problems: string[] = [];
  const choices = new Map<string, Choice>();
  const choiceFor = ({ table }: Relation) => {
    const choice = choices.get(table.sql) ?? { excluded: false, root: undefined, masks: new Map<string, Mask>() };
    choices.set(table.sql, choice);
    return choice;
  };
  /** Finds the tables of a name: one, or the partitions of a partitioned one. */
  const find = (setting: string, name: string): Relation[] => {
    const found = relations.filter(matcher(name));
    if (found.length === 0) problems.push(`${setting}: the source has no table ${name}`);
    const schemas = new Set(
      found.flatMap(({ names }) => names.filter((own) => own.name === name).map(({ schema }) => schema)),
    );
    if (schemas.size <= 1) return found;
    problems.push(
      `${setting}: ${name} is in the schemas ${[...schemas].sort().join(", ")}; add the schema, as in ${[...schemas].sort()[0]}.${name}`,
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
          `importSubset "${root.setting}": importExclude excludes all rows of that table; remove one of the two settings`,
        );
      if (choice.root)
        problems.push(
          `importSubset names ${root.table} twice: "${choice.root.setting}" and "${root.setting}"; combine them into one condition`,
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
          `importMasks has two masks for ${mask.table}.${mask.column}: ${other.kind} and ${mask.kind}; remove one`,
        );
      if (choice.excluded)
        problems.push(
          `importMasks "${mask.setting}": importExclude excludes all rows of that table; remove one of the two settings`,
        );
      choice.masks.set(mask.column, mask);
    }
  }
  return { choices, problems: [...new Set(problems)] };
}

const columnKey = (table: string, column: string) => JSON.stringify([table, column]);

/**
 * Returns each column with the limits of all columns that foreign keys connect it to. Their masks must be equal, so a mask must fit the
 * shortest of them, and must be unique if any of them is.
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

/** Returns for every column of a foreign key all columns connected to it, including itself. */
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
        problems.push(`${said}: the column is generated from other columns; mask those instead`);
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
            `${said}: a foreign key connects the column to ${label}, which must have the same mask: add "${label} = ${mask.setting.split("=").slice(1).join("=").trim()}"`,
          );
        } else if (shared.get(tied)?.base !== column.base) {
          problems.push(
            `${said}: a foreign key connects the column to ${label}, which has another type, so no mask fits both`,
          );
        }
      }
    }
  }
  return [...new Set(problems)];
}

/** Returns problems with copied rows that refer to excluded rows, because their foreign key could not be created. */
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
        `importExclude excludes the rows of ${label(parent)}, but ${lost.toLocaleString("en")} rows of ${label(child)} refer to them ` +
          `(foreign key ${name}). Exclude ${label(child)}, too, ${mask || ""}or use a subset instead ` +
          `("${label(parent)} where false" in importSubset also excludes the rows that refer to it)`,
      );
    }
  }
  return problems;
}
