/** Copies and compares the positions of sequences. */
import type pg from "pg";
import { literal } from "../../../lib/postgres.ts";
import { readSequences } from "../schema/catalog.ts";
import type { SequenceState } from "../types.ts";

/** Returns a sequence's state as one string: its last value, and whether that value has been used. */
export const describeState = ({ lastValue, isCalled }: SequenceState): string =>
  `${lastValue}${isCalled ? "" : " (not used yet)"}`;

/** Sets the target's sequences to the source's positions, and returns these. */
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

/** Returns the positions that were set, together with those that the target reports. */
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
