/** Settings of the import and of the safety copy. */

import { defaultIdentityFile } from "../../lib/identity-file.ts";
import { flag, list, matches, notBlank, number, oneOf, text, type ValuesOf, whole } from "../../lib/setting.ts";
import { parseSelection, type RawSelection } from "./selection/selection-settings.ts";
import type { SafetyCopySettings } from "./types.ts";

/** Where the data of a new stack comes from. */
export type Bootstrap = "sample" | "neon" | "empty" | "backup";

export const IMPORT_SETTINGS = {
  bootstrap: text(oneOf("sample", "neon", "empty", "backup", "auto")),
  importJobs: number(whole(1, 16)),
  importExclude: list(),
  importSchemaOnly: flag(),
  importSubset: list(),
  importMasks: list(),
  safetyCopy: text(oneOf("auto", "true", "false")),
  safetyCopyFolder: text(notBlank("give a folder")),
  safetyCopyRecipient: text(
    matches(
      /^(?:auto|age1[02-9ac-hj-np-z]{58})$/,
      "give an age public key (age1 and 58 more characters; age-keygen prints one), or auto",
    ),
  ),
  safetyCopyIdentity: text(notBlank("give the path of a file, or auto")),
};

export type ImportValues = ValuesOf<typeof IMPORT_SETTINGS>;

/** Returns where the data of a new stack comes from. `auto` follows from whether NEON_DATABASE_URL is set. Pure. */
export const bootstrapOf = ({ bootstrap }: ImportValues, neonUrlIsSet: boolean): Bootstrap =>
  bootstrap === "auto" ? (neonUrlIsSet ? "neon" : "sample") : (bootstrap as Bootstrap);

/** Returns the settings that select what of the source is copied. Pure. */
export const selectionOf = ({
  importExclude,
  importSchemaOnly,
  importSubset,
  importMasks,
}: ImportValues): RawSelection => ({
  importExclude,
  importSchemaOnly,
  importSubset,
  importMasks,
});

/** Returns what is wrong with the selection. Pure. */
export const selectionProblems = (values: ImportValues): string[] =>
  parseSelection(selectionOf(values)).problems.map(({ key, problem }) => `${key}: ${problem}`);

/** Returns where the safety copy is written; undefined for none. By default, only data from Neon gets one. Pure. */
export function safetyCopyOf(values: ImportValues, bootstrap: Bootstrap): SafetyCopySettings | undefined {
  const isWanted = values.safetyCopy === "auto" ? bootstrap === "neon" : values.safetyCopy === "true";
  if (!isWanted || bootstrap === "empty") return undefined;
  return Object.freeze({
    folder: values.safetyCopyFolder,
    identityFile: values.safetyCopyIdentity === "auto" ? defaultIdentityFile() : values.safetyCopyIdentity,
    recipient: values.safetyCopyRecipient === "auto" ? undefined : values.safetyCopyRecipient,
  });
}
