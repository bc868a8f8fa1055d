/** Sequences: where each of them stands. */
import type pg from "pg";
import { literal } from "../../lib/postgres.ts";
import { readSequences } from "./catalog.ts";
import type { SequenceState } from "./types.ts";

/** A sequence's state in one word: its last value, and whether that has been handed out. */
export const describeState = ({ lastValue, isCalled }: SequenceState): string =>
  `${lastValue}${isCalled ? "" : " (not used yet)"}`;

/** Sets the target's sequences to where the source's stand; returns where that is. */
export async function copySequences(names: string[], source: pg.Client, target: pg.Client): Promise<SequenceState[]> {
  const theirs = await readSequences(source, names);
  if (theirs.length > 0) {
    await target.query(
      theirs
        .map(({ name, lastValue, isCalled }) => `SELECT setval(${literal(name)}, ${lastValue}, ${isCalled})`)
        .join(";"),
    );
  }
  return theirs;
}

/** The sequences' states as they were set, beside what the target says they are. */
export async function compareSequences(theirs: readonly SequenceState[], target: pg.Client) {
  const ours = await readSequences(
    target,
    theirs.map(({ name }) => name),
  );
  return theirs.map((state, index) => ({
    name: state.name,
    source: describeState(state),
    target: describeState(ours[index] ?? { name: state.name, lastValue: "none", isCalled: false }),
  }));
}
