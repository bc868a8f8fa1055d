/**
 * Decides whether a stack with `backups: auto` takes backups. A stack takes them if its data exists nowhere else in this form; the
 * sample and an empty database do not need them. Backups that are on stay on: an update must not remove them because an environment
 * variable is missing.
 */

import { type ImportSummary, isSample } from "../../lib/import-summary.ts";
import type { StateResource } from "../../lib/stack-state.ts";

const IMPORT = "pulumi-nodejs:dynamic/import:ImportOnce";
const VOLUME = "docker:index/volume:Volume";
/** The end of the URN of the backups' volume: `database-backups`, and `backups` in the states of earlier versions. */
const BACKUPS = /(?:::|-)backups$/;
/** Values of `bootstrap` whose data a new stack cannot generate by itself. */
const PRECIOUS: readonly unknown[] = ["neon", "backup"];

/** What the stack's state says about its data and its backups. */
export interface RecordedData {
  /** Whether the stack has a volume for backups. */
  readonly hasBackups: boolean;
  /** Whether its data came from Neon, a backup or an adopted volume; undefined before anything was imported. */
  readonly isPrecious: boolean | undefined;
}

/** Returns where a stack's data came from, according to its state, and whether the stack has backups. Pure. */
export function recordedData(resources: readonly StateResource[]): RecordedData {
  const hasBackups = resources.some(({ urn, type }) => type === VOLUME && BACKUPS.test(urn));
  const outputs = resources.find(({ type }) => type === IMPORT)?.outputs;
  if (outputs === undefined) return { hasBackups, isPrecious: undefined };
  const summary = outputs.summary as ImportSummary | null | undefined;
  // An adoption or a refresh replaces the data that the stack started with.
  const isReplaced = summary != null && !isSample(summary);
  return { hasBackups, isPrecious: PRECIOUS.includes(outputs.bootstrap) || isReplaced };
}

/**
 * Decides whether a stack takes backups. Pure.
 * @param setting `true`, `false` or `auto`.
 * @param sources the sources of the stack's databases, if they were created now.
 */
export function takesBackups(setting: string, sources: readonly string[], recorded: RecordedData): boolean {
  if (setting !== "auto") return setting === "true";
  if (recorded.hasBackups) return true;
  return recorded.isPrecious ?? sources.some((source) => PRECIOUS.includes(source));
}
