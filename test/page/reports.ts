/** One report of each verdict. Together they have every part that a report's page can show. */
import { createHash } from "node:crypto";
import type { Report, TableProof } from "../../components/import/types.ts";

const hash = (text: string) => createHash("sha256").update(text).digest("hex");

const proof = (table: string, rows: number, more: Partial<TableProof> = {}): TableProof => ({
  table,
  rows,
  bytes: rows * 87,
  seconds: rows / 90_000,
  format: "binary",
  source: hash(table),
  target: hash(table),
  verdict: "equal",
  ...more,
});

/** A name of 63 bytes, the most that PostgreSQL allows. */
const LONG = "a_table_whose_name_is_as_long_as_postgresql_lets_it_be_63_signs";

const EQUAL = [
  proof("public.events", 1_240_000),
  proof("public.ships", 20_000),
  proof("audit.changes", 8000, { verdict: "equal as a set", source: "8113 90777", target: "8113 90777" }),
  proof(`audit.${LONG}`, 12, { format: "text" }),
  proof('public."Käpt’n <b>Blaubär</b>"', 3),
  proof("public.empty", 0),
];

const SELECTED = [
  proof("public.players", 18_220, { verdict: "masked", selected: "email masked (email); nickname masked (name)" }),
  proof("public.market_history", 4012, {
    verdict: "subset",
    selected:
      "4,012 rows: \"market_history where recorded_at > now() - interval '30 days'\", and what the subset refers to",
  }),
  proof("public.messages", 900, {
    verdict: "masked subset",
    selected: "900 rows: what belongs to the subset; body masked (text)",
  }),
  proof("audit.event_log", 0, { verdict: "excluded", selected: "no rows" }),
];

const IDENTICAL: Report = {
  verdict: "identical",
  stack: "neon",
  command: "pulumi up",
  source: "ep-cool-name-12345678.eu-central-1.aws.neon.tech/sectorwars",
  sourceVersion: "16.4",
  targetVersion: "15.18",
  collations: { source: "libc C.UTF-8", target: "ICU en-US" },
  alembicRevision: "a7c3e91b04d2",
  startedAt: "2026-11-23T02:45:43.188Z",
  seconds: 16.006,
  rows: 1_268_015,
  bytes: 110_317_305,
  tables: EQUAL,
  sequences: [
    { name: '"public"."ships_id_seq"', source: "20000", target: "20000" },
    { name: '"audit"."changes_id_seq"', source: "9223372036854775807", target: "9223372036854775807" },
  ],
  schema: { compared: 214, differences: [] },
  skipped: [{ what: "schema neon_auth", why: "it is Neon’s own, and of no use elsewhere" }],
  remarks: ["text sorts by ICU en-US here and by libc C.UTF-8 on the source; indexes are built anew"],
  spans: [
    { name: "preflight", from: 0, to: 700 },
    { name: "snapshot", from: 700, to: 760 },
    { name: "schema", from: 760, to: 2900 },
    { name: "rows", from: 2900, to: 13_100 },
    { name: "sequences", from: 13_100, to: 13_900 },
    { name: "compare", from: 13_900, to: 15_700 },
    { name: "swap", from: 15_700, to: 15_990 },
    { name: "rows public.events", from: 2910, to: 8200 },
    { name: "keys public.events", from: 8200, to: 9700 },
    { name: "index public.events_payload_idx", from: 9700, to: 11_000 },
    { name: "proof public.events", from: 11_000, to: 13_080 },
    { name: "rows public.ships", from: 2920, to: 4800 },
    { name: "restrictions of roles", from: 4800, to: 6600 },
  ],
};

/** A report of each verdict, with the parts that only this verdict has. */
export const REPORTS: Record<Report["verdict"], Report> = {
  identical: IDENTICAL,
  selected: {
    ...IDENTICAL,
    verdict: "selected",
    tables: [...EQUAL, ...SELECTED],
    schema: { compared: 214, differences: ["VIEW public.fleet: different"] },
    safetyCopy: {
      name: "dev-20261123T054512Z",
      path: "/home/ada/sectorwars/backups/safety/dev-20261123T054512Z",
      bytes: 21_400_321,
      files: 19,
      sha256: hash("checksums"),
      recipient: `age1${"q".repeat(58)}`,
      verified: "decrypted",
      partial: true,
    },
  },
  different: {
    ...IDENTICAL,
    verdict: "different",
    error: "The copy is not what the source holds: public.ships has 2 rows that differ.",
    tables: [
      ...EQUAL.filter(({ table }) => table !== "public.ships"),
      proof("public.ships", 20_000, {
        verdict: "different",
        target: hash("other"),
        differences: ["(id) = (17)", `(id, note) = (18, ${"abcdefgh".repeat(20)})`],
      }),
    ],
    sequences: [{ name: '"public"."ships_id_seq"', source: "20000", target: "19999" }],
    schema: { compared: 214, differences: [`INDEX public.${LONG}: missing`] },
  },
  failed: {
    ...IDENTICAL,
    verdict: "failed",
    error: `COPY public.events: could not write to file "pg_wal/xlogtemp.57": No space left on device\n  needed: 84 MiB, free: 0 MiB\n  at ${"pg_wal/".repeat(30)}`,
    tables: [],
    sequences: [],
    schema: { compared: 0, differences: [] },
    rows: 0,
    bytes: 0,
    skipped: [],
    remarks: [],
    alembicRevision: undefined,
    spans: IDENTICAL.spans.slice(0, 2),
  },
};
