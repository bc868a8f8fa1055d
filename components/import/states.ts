/** What a database holds, as one word of state for each of its objects; and in what two of them differ. Pure. */
import { createHash } from "node:crypto";

/** Objects, as messages call them, with what they are: a definition, a fingerprint, a value. */
export type States = ReadonlyMap<string, string>;

/** An object that is not the same on both sides. */
export interface StateDifference {
  object: string;
  how: "missing on the target" | "not on the source" | "different";
}

/** Compares both directions; in the objects' order by name. */
export function compareStates(source: States, target: States): StateDifference[] {
  return [...new Set([...source.keys(), ...target.keys()])].sort().flatMap((object): StateDifference[] => {
    if (!target.has(object)) return [{ object, how: "missing on the target" }];
    if (!source.has(object)) return [{ object, how: "not on the source" }];
    return source.get(object) === target.get(object) ? [] : [{ object, how: "different" }];
  });
}

/** A state that is too long to keep, as its SHA-256. */
export const digest = (state: string): string => createHash("sha256").update(state).digest("hex");

/** The same objects, each with the digest of its state. */
export const digestAll = (states: States): States =>
  new Map([...states].map(([object, state]) => [object, digest(state)]));

/** Two sides' states of one moment, kept so that a later comparison can tell who has moved since. */
export interface Noted {
  source?: string;
  target?: string;
  /** Of a table's rows: the columns that the fingerprint is of. */
  columns?: string[];
  /** Of a table that did not come whole: "masked" or "subset". The source cannot have the same rows. */
  selected?: string;
  /**
   * Of a large table: SHA-256 of its rows' bytes on the target, which the import's proof has taken anyway. A fingerprint, which does
   * not depend on the order, would have cost another reading.
   */
  stream?: string;
  /** Of a definition: both sides word it differently, and mean the same. */
  reworded?: boolean;
}

/** Where something has changed since it was noted. `nowhere`: it differed then as it does now, and that was accepted. */
export type Change = "here" | "on the source" | "on both sides" | "nowhere";

/** Tells who has moved since; undefined where too little was noted. What was not there then, and is not now, has not moved. */
export function whoChanged(then: Noted, now: Pick<Noted, "source" | "target">): Change | undefined {
  if (then.stream !== undefined && then.target === undefined) return undefined;
  const there = then.source !== now.source;
  const here = then.target !== now.target;
  if (there && here) return "on both sides";
  if (there) return "on the source";
  return here ? "here" : "nowhere";
}
