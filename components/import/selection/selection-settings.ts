/** Parses the settings that exclude or mask parts of the source. Pure. */
import type { Mask, MaskKind, SelectionSettings, SubsetRoot } from "../types.ts";

/** The settings as in the stack's configuration. */
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

/** A problem with one of the settings. */
export interface SelectionProblem {
  key: keyof RawSelection;
  problem: string;
}

/** Parses the settings, and returns every problem that can be found without the source. */
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
        problem: `"${pattern}" is not a table pattern: write [schema.]table, with * for any characters`,
      });
    }
  }
  for (const setting of raw.importSubset) {
    const [, table = "", where, percentage] = SUBSET.exec(setting.trim()) ?? [];
    const percent = percentage === undefined ? undefined : Number(percentage);
    if (table === "" || percent === 0 || (percent !== undefined && percent > 100)) {
      problems.push({
        key: "importSubset",
        problem: `"${setting}" is not a subset: write [schema.]table where CONDITION, or [schema.]table PERCENT%, above 0 and up to 100`,
      });
    } else subset.push({ setting, table, ...(where === undefined ? { percent: percent ?? 100 } : { where }) });
  }
  for (const setting of raw.importMasks) {
    const [, table = "", column = "", kind, value] = MASK.exec(setting.trim()) ?? [];
    if (table === "") {
      problems.push({
        key: "importMasks",
        problem: `"${setting}" is not a mask: write [schema.]table.column = KIND, where KIND is email, name, text, hash, null or fixed VALUE`,
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
          problem: "importSchemaOnly copies no rows, so there is nothing to select; set one or the other",
        });
    }
  }
  const isNothing = !raw.importSchemaOnly && raw.importExclude.length + subset.length + masks.length === 0;
  const selection = { exclude: [...raw.importExclude], schemaOnly: raw.importSchemaOnly, subset, masks };
  return { selection: isNothing ? undefined : selection, problems };
}
