import { expect, test } from "vitest";
import { valuesOf } from "../../components/handover/env-values.ts";

test.each([
  ["A=1\nA=2\n", { A: "2" }],
  ["\uFEFFA=1", { A: "1" }],
  ["  export A = 1 # why\r\n", { A: "1" }],
  ["A: 1", { A: "1" }],
  ["A=a#b", { A: "a#b" }],
  ['A="x"  # why', { A: "x" }],
  ["A='$B \"x\"' # why", { A: '$B "x"' }],
  [`B=1\nA=$B-\${B}-\${C}-\${C:-d}-\${B:+e}-$$B`, { B: "1", A: "1-1--d-e-$B" }],
  ["A=$B\nB=1", { A: "", B: "1" }],
  ['A="a\\n\\"b\\" \\$B"', { A: 'a\n"b" $B' }],
  ['K="one\nA=inside\ntwo"\nA=', { K: "one\nA=inside\ntwo", A: "" }],
  ['A="open\nB=1', { A: '"open', B: "1" }],
])("%j sets %j", (text, values) => {
  expect(valuesOf(text)).toEqual(values);
});

test("a reference takes the environment's value first, as in docker compose", () => {
  expect(valuesOf(`A=$B\nC=\${D}`, { B: "outer" })).toEqual({ A: "outer", C: "" });
});
