/**
 * Whether a stack takes backups when its settings leave that open (`backups: auto`): data that exists nowhere else in this form has them,
 * the sample and an empty database do not. What was switched on stays on: a later update must not remove backups because a variable
 * of the environment is missing.
 */

import { SAMPLE } from "../../lib/import-summary.ts";
import type { StateResource } from "../../lib/stack-state.ts";

const IMPORT = "pulumi-nodejs:dynamic/import:ImportOnce";
const VOLUME = "docker:index/volume:Volume";
/** Where data comes from that a new stack cannot make by itself. */
const PRECIOUS: readonly unknown[] = ["neon", "backup"];

/** What the last update left of a stack, as far as it decides about backups. */
export interface RecordedData {
  /** Whether the stack has a volume for backups. */
  readonly hasBackups: boolean;
  /** Whether its data came from Neon, a backup or an adopted volume; undefined before anything was imported. */
  readonly isPrecious: boolean | undefined;
}

/** Reads from a stack's state where its data came from, and whether it has backups. Pure. */
export function recordedData(resources: readonly StateResource[]): RecordedData {
  const hasBackups = resources.some(({ urn, type }) => type === VOLUME && urn.endsWith("::backups"));
  const outputs = resources.find(({ type }) => type === IMPORT)?.outputs;
  if (outputs === undefined) return { hasBackups, isPrecious: undefined };
  const source = (outputs.summary as { source?: string } | null | undefined)?.source;
  // An adoption or a refresh brings other data than the stack began with.
  const isReplaced = source !== undefined && !source.startsWith(SAMPLE);
  return { hasBackups, isPrecious: PRECIOUS.includes(outputs.bootstrap) || isReplaced };
}

/**
 * Decides whether a stack takes backups. Pure.
 * @param setting `true`, `false` or `auto`.
 * @param sources where the stack's databases would come from, if they were made now.
 */
export function takesBackups(setting: string, sources: readonly string[], recorded: RecordedData): boolean {
  if (setting !== "auto") return setting === "true";
  if (recorded.hasBackups) return true;
  return recorded.isPrecious ?? sources.some((source) => PRECIOUS.includes(source));
}
