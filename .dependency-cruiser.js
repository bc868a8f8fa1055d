/**
 * The order of the rooms: a module may import from its own room and from the rooms listed before it, never from those after. So imports
 * between folders form no cycle. ARCHITECTURE.md has the picture.
 */
const ORDER = [
  "lib",
  "components/server",
  "components/roles",
  "components/privileges",
  "components/pooler",
  // The import's own rooms. Its types, and the progress that all of them report, come first; the resource comes last.
  "components/import/(?:types|progress)\\.ts",
  ...["session", "schema", "rows", "selection", "source", "staging", "compare"].map(
    (room) => `components/import/${room}`,
  ),
  ...["safety-copy", "preflight", "report", "run"].map((room) => `components/import/${room}`),
  "components/import/(?:neon-import|import-provider|settings)\\.ts",
  "components/snapshots",
  "components/branches",
  "components/backups",
  "components/databases",
  "components/handover",
  "components/migrations",
  "components/seed",
  "components/refresh",
  // The settings of all rooms, and the files with secrets of all rooms.
  "components/[^/]+\\.ts",
];
/** Programs: each uses the rooms, and none another. */
const PROGRAMS = ["index\\.ts", "cli", "script", "bench"];

const pathOf = (room) => (room.endsWith(".ts") ? `^${room}$` : `^${room}/`);
const orders = ORDER.map((room, index) => ({
  name: `${room.replace("components/", "").replace("[^/]+\\.ts", "settings")}-comes-first`,
  comment: "Move what both need to a room before both, for instance lib.",
  severity: "error",
  from: { path: pathOf(room) },
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
      name: "known-room",
      comment: "Every folder of components stands in the order above.",
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
