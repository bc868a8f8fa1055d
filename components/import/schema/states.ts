/** The state of a database as one string for each object, and the differences between two such states. Pure. */
import { createHash } from "node:crypto";

/** State of each object, by the name that messages use for it: a definition, a fingerprint or a value. */
export type States = ReadonlyMap<string, string>;

/** An object that differs between source and target. */
export interface StateDifference {
  object: string;
  how: "missing on the target" | "not on the source" | "different";
}

/** Returns the differences in both directions, sorted by the objects' names. */
export function compareStates(source: States, target: States): StateDifference[] {
  return [...new Set([...source.keys(), ...target.keys()])].sort().flatMap((object): StateDifference[] => {
    if (!target.has(object)) return [{ object, how: "missing on the target" }];
    if (!source.has(object)) return [{ object, how: "not on the source" }];
    return source.get(object) === target.get(object) ? [] : [{ object, how: "different" }];
  });
}

/** Returns the SHA-256 of a state, for states that are too long to store. */
export const digest = (state: string): string => createHash("sha256").update(state).digest("hex");

/** Replaces each object's state by its digest. */
export const digestAll = (states: States): States =>
  new Map([...states].map(([object, state]) => [object, digest(state)]));

/** States of an object on source and target at the import, from which a later comparison sees where the object has changed. */
export interface BaselineEntry {
  source?: string;
  target?: string;
  /** For a table's rows: the columns that the fingerprint covers. */
  columns?: string[];
  /** For a table that was not copied whole: "masked" or "subset". The source cannot have the same rows. */
  selected?: string;
  /**
   * For a large table: SHA-256 of its rows' bytes on the target, which the import's proof computes anyway. An order-independent
   * fingerprint would have cost another read.
   */
  stream?: string;
  /** For a definition: source and target word it differently, with the same meaning. */
  reworded?: boolean;
}

/** Where an object has changed since the baseline. `nowhere`: it differed at the import as it does now, and that was accepted. */
export type Change = "here" | "on the source" | "on both sides" | "nowhere";

/**
 * Returns where an object has changed since the baseline; undefined if the baseline holds too little. An object that was missing
 * then and is missing now has not changed.
 */
export function whereChanged(then: BaselineEntry, now: Pick<BaselineEntry, "source" | "target">): Change | undefined {
  if (then.stream !== undefined && then.target === undefined) return undefined;
  const there = then.source !== now.source;
  const here = then.target !== now.target;
  if (there && here) return "on both sides";
  if (there) return "on the source";
  return here ? "here" : "nowhere";
}
