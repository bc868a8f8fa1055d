/** The settings that leave something of the source out, or change it: how they are written. Pure. */

/** How a column is masked. */
export type MaskKind = "email" | "name" | "text" | "hash" | "null" | "fixed";

/** One column that is masked. */
export interface Mask {
  /** As it was written, for messages. */
  setting: string;
  /** Table, with its schema or without. */
  table: string;
  column: string;
  kind: MaskKind;
  /** What `fixed` puts in the value's place. */
  value?: string;
}

/** The rows of a table from which a subset grows. */
export interface SubsetRoot {
  setting: string;
  table: string;
  /** A condition in SQL on the table's columns; exclusive with a percentage. */
  where?: string;
  percent?: number;
}

/** What of the source is imported, where that is not all of it. */
export interface SelectionSettings {
  /** Tables whose rows stay behind; `*` for any characters. */
  exclude: string[];
  /** All rows stay behind. */
  schemaOnly: boolean;
  subset: SubsetRoot[];
  masks: Mask[];
}

/** The settings as Pulumi.yaml has them. */
export interface RawSelection {
  importExclude: readonly string[];
  importSchemaOnly: boolean;
  importSubset: readonly string[];
  importMasks: readonly string[];
}

const TABLE = String.raw`(?:[^\s.*=%]+\.)?[^\s.*=%]+`;
const SUBSET = new RegExp(String.raw`^(${TABLE})\s+(?:where\s+(.+)|(\d+(?:\.\d+)?)\s*%)$`, "is");
const MASK = new RegExp(
  String.raw`^(${TABLE})\.([^\s.*=%]+)\s*=\s*(?:(email|name|text|hash|null)|fixed(?:\s(.*))?)$`,
  "s",
);
const EXCLUDE = /^(?:[^\s.]+\.)?[^\s.]+$/;

/** A problem with one of the settings, by its key. */
export interface SelectionProblem {
  key: keyof RawSelection;
  problem: string;
}

/** Reads the settings; with every problem that can be seen without looking at the source. */
export function parseSelection(raw: RawSelection): {
  selection: SelectionSettings | undefined;
  problems: SelectionProblem[];
} {
  const problems: SelectionProblem[] = [];
  const subset: SubsetRoot[] = [];
  const masks: Mask[] = [];
  for (const pattern of raw.importExclude) {
    if (!EXCLUDE.test(pattern)) {
      problems.push({
        key: "importExclude",
        problem: `"${pattern}" names no table: write [schema.]table, with * for any characters`,
      });
    }
  }
  for (const setting of raw.importSubset) {
    const [, table = "", where, percentage] = SUBSET.exec(setting.trim()) ?? [];
    const percent = percentage === undefined ? undefined : Number(percentage);
    if (table === "" || percent === 0 || (percent !== undefined && percent > 100)) {
      problems.push({
        key: "importSubset",
        problem: `"${setting}" is no subset: write [schema.]table where CONDITION, or [schema.]table PERCENT%, above 0 and up to 100`,
      });
    } else subset.push({ setting, table, ...(where === undefined ? { percent: percent ?? 100 } : { where }) });
  }
  for (const setting of raw.importMasks) {
    const [, table = "", column = "", kind, value] = MASK.exec(setting.trim()) ?? [];
    if (table === "") {
      problems.push({
        key: "importMasks",
        problem: `"${setting}" is no mask: write [schema.]table.column = KIND, where KIND is email, name, text, hash, null or fixed VALUE`,
      });
    } else
      masks.push({
        setting,
        table,
        column,
        kind: (kind as MaskKind | undefined) ?? "fixed",
        ...(kind ? {} : { value: value ?? "" }),
      });
  }
  if (raw.importSchemaOnly) {
    for (const key of ["importExclude", "importSubset", "importMasks"] as const) {
      if (raw[key].length > 0)
        problems.push({
          key,
          problem: "importSchemaOnly leaves all rows behind, so there is nothing to select; set one or the other",
        });
    }
  }
  const isNothing = !raw.importSchemaOnly && raw.importExclude.length + subset.length + masks.length === 0;
  const selection = { exclude: [...raw.importExclude], schemaOnly: raw.importSchemaOnly, subset, masks };
  return { selection: isNothing ? undefined : selection, problems };
}
