/** Sequences: where each of them stands. */
import type pg from "pg";
import { literal } from "../../lib/postgres.ts";
import { readSequences } from "./catalog.ts";
import type { SequenceState } from "./types.ts";

/** A sequence's state in one word: its last value, and whether that has been handed out. */
export const describeState = ({ lastValue, isCalled }: SequenceState): string =>
  `${lastValue}${isCalled ? "" : " (not used yet)"}`;

/** Sets the target's sequences to where the source's stand, and reads them back. */
export async function copySequences(names: string[], source: pg.Client, target: pg.Client) {
  const theirs = await readSequences(source, names);
  if (theirs.length > 0) {
    await target.query(
      theirs
        .map(({ name, lastValue, isCalled }) => `SELECT setval(${literal(name)}, ${lastValue}, ${isCalled})`)
        .join(";"),
    );
  }
  const ours = await readSequences(target, names);
  return theirs.map((state, index) => ({
    name: state.name,
    source: describeState(state),
    target: describeState(ours[index] ?? { name: state.name, lastValue: "none", isCalled: false }),
  }));
}
