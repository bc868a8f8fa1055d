import { defineConfig } from "vitest/config";
import { LongestFirst } from "./test/longest-first.ts";

/** The program is loaded by Node itself, as Pulumi does: a rewritten `import()` would not survive Pulumi's serialiser. */
const ours = { server: { deps: { external: [/\/(lib|components|cli|script)\//] } } };

/**
 * Servers and stacks spend much of their time waiting, for Docker, for silence, for each other: with two files at a time two
 * processors were idle for more than half of it. Each file has names and ports of its own.
 */
const sideBySide = { maxWorkers: 3, sequence: { groupOrder: 1 } };

export default defineConfig({
  test: {
    ...ours,
    reporters: ["default"],
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts"],
          isolate: false,
          testTimeout: 30_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "page",
          include: ["test/page/**/*.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "import",
          include: ["test/import/**/*.test.ts"],
          testTimeout: 240_000,
          hookTimeout: 300_000,
          ...sideBySide,
        },
      },
      {
        extends: true,
        test: {
          name: "stack",
          include: ["test/stack/**/*.test.ts"],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          ...sideBySide,
        },
      },
    ],
  },
});
