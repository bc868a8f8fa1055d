import { defineConfig } from "vitest/config";

/** The program is loaded by Node itself, as Pulumi does: a rewritten `import()` would not survive Pulumi's serialiser. */
const ours = { server: { deps: { external: [/\/(lib|components|commands)\//] } } };

export default defineConfig({
  test: {
    ...ours,
    reporters: ["default"],
    projects: [
      {
        extends: true,
        test: { name: "unit", include: ["test/unit/**/*.test.ts"], isolate: false, testTimeout: 30_000 },
      },
      {
        extends: true,
        test: {
          name: "import",
          include: ["test/import/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        test: {
          name: "stack",
          include: ["test/stack/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
