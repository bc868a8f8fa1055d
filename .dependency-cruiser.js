/**
 * The order of the folders: a module may import from its own folder and from the folders listed before it, never from those after. So
 * imports between folders form no cycle. ARCHITECTURE.md has the picture.
 */
const ORDER = [
  "lib",
  "components/server",
  "components/roles",
  "components/privileges",
  "components/pooler",
  // The import's own folders. Its types, and the progress that all of them report, come first; the resource comes last.
  "components/import/(?:types|progress)\\.ts",
  ...["session", "schema", "rows", "selection", "source", "staging", "compare"].map(
    (folder) => `components/import/${folder}`,
  ),
  ...["safety-copy", "preflight", "report", "run"].map((folder) => `components/import/${folder}`),
  "components/import/(?:neon-import|import-provider|settings)\\.ts",
  "components/snapshots",
  "components/branches",
  "components/backups",
  "components/databases",
  "components/replicas",
  "components/handover",
  "components/migrations",
  "components/seed",
  "components/refresh",
  // The settings of all folders, and the files with secrets of all folders.
  "components/[^/]+\\.ts",
];
/** Programs: they may import from the folders above, which may not import from them. */
const PROGRAMS = ["index\\.ts", "cli", "script", "bench"];

const pathOf = (folder) => (folder.endsWith(".ts") ? `^${folder}$` : `^${folder}/`);
const orders = ORDER.map((folder, index) => ({
  name: `${folder.replace("components/", "").replace("[^/]+\\.ts", "settings")}-comes-first`,
  comment: "Move what both need to a folder before both, for instance lib.",
  severity: "error",
  from: { path: pathOf(folder) },
  to: { path: [...ORDER.slice(index + 1), ...PROGRAMS].map(pathOf) },
}));

export default {
  forbidden: [
    ...orders,
    {
      name: "no-cycle-between-modules",
      comment:
        "A cycle of imports of values depends on which module is loaded first. Imports of types are erased, and dynamic ones come later.",
      severity: "error",
      from: { path: "\\.ts$" },
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only", "dynamic-import"] } },
    },
    {
      name: "known-folder",
      comment: "Every folder of components has a place in the order above.",
      severity: "error",
      from: { path: "^components/", pathNot: ORDER.map(pathOf) },
      to: {},
    },
    {
      name: "no-test-in-the-product",
      severity: "error",
      from: { path: ["^lib/", "^components/", "^cli/", "^script/", "^index\\.ts$"] },
      to: { path: "^test/" },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    doNotFollow: { path: "node_modules" },
  },
};
