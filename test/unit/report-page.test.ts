/** The HTML report: its content, that it escapes all values, and that it loads nothing from elsewhere. */
import { describe, expect, test } from "vitest";
import { duration, escapeText, html } from "../../components/import/report/html.ts";
import { reportPage } from "../../components/import/report/page.ts";
import { packLanes } from "../../components/import/report/timeline.ts";
import type { Report, TableProof } from "../../components/import/types.ts";

const HASH = "4bba08d331af68b3193385743721cbbc370ff83f84cf1a83472377412387b8b5";

const proof = (table: string, more: Partial<TableProof> = {}): TableProof => ({
  table,
  rows: 1200,
  bytes: 34_567,
  seconds: 0.25,
  format: "binary",
  source: HASH,
  target: HASH,
  verdict: "equal",
  ...more,
});

const report = (more: Partial<Report> = {}): Report => ({
  verdict: "identical",
  stack: "dev",
  command: "pulumi up",
  source: "ep-cool-name.neon.tech/sectorwars",
  sourceVersion: "16.4",
  targetVersion: "15.18",
  collations: { source: "libc C.UTF-8", target: "ICU en-US" },
  alembicRevision: "a7c3e91b04d2",
  startedAt: "2026-11-23T02:45:43.188Z",
  seconds: 5.006,
  rows: 260_609,
  bytes: 19_750_536,
  tables: [proof("public.ships"), proof("audit.changes"), proof("public.empty", { rows: 0 })],
  sequences: [{ name: '"public"."ships_id_seq"', source: "20000", target: "20000" }],
  schema: { compared: 200, differences: [] },
  skipped: [{ what: "schema neon_auth", why: "it is of no use elsewhere" }],
  remarks: ["indexes are built anew"],
  spans: [
    { name: "preflight", from: 0, to: 100 },
    { name: "rows", from: 100, to: 2100 },
    { name: "rows public.ships", from: 110, to: 1400 },
    { name: "rows audit.changes", from: 120, to: 900 },
    { name: "index public.ships_cargo_idx", from: 1400, to: 2000 },
  ],
  ...more,
});

/** The visible text of a page: no markup, no style, single spaces. */
const textOf = (page: string): string =>
  page
    .replace(/<style>.*<\/style>/s, "")
    .replace(/<[^>]*>/g, "")
    .replace(/\s+/g, " ");

describe("the next steps in the report", () => {
  const next = (more: Partial<Report>) =>
    textOf(reportPage(report(more))).replace(/.*In the project’s folder: (.*) Timeline.*/, "$1");

  test("after an identical import are commands to use the database, with the stack's name", () => {
    for (const said of ["./db urlprints", "./db psqlopens", "./db verifycompares", "docs/application.md"])
      expect(next({})).toContain(said);
    expect(next({ stack: "neon" })).toContain("./db verify --stack neon");
    const further = next({ furtherDatabase: "nexus", stack: "neon" });
    expect(further).toContain("./db url --stack neon --database nexus");
    expect(further).toContain("./db psql --stack neon -d nexus");
    expect(further).not.toContain("./db verify");
  });

  test("after a failed import are commands to find the cause and to import again", () => {
    const failed = next({ verdict: "failed", stack: "neon", command: "./db refresh" });
    for (const said of ["./db preflight --stack neon", "./db doctor --stack neon", "./db refresh --stack neon"])
      expect(failed).toContain(said);
    expect(failed).not.toContain("./db url");
    expect(next({ verdict: "different" })).not.toContain("./db preflight");
  });
});

describe("the verdict in the report", () => {
  test("for an identical copy counts the tables, rows and bytes that were proven equal", () => {
    const page = reportPage(report());
    expect(textOf(page)).toContain("Identical: 3 tables, 260,609 rows, 18.8 MB proven equal in 5.0 s");
    expect(page).toContain("<title>Identical: 3 tables");
    expect(page).not.toContain("nothing was changed");
    expect(page).not.toContain('id="differences"');
  });

  test("for a different copy counts and names the differences, and says that nothing was changed", () => {
    const page = reportPage(
      report({
        verdict: "different",
        error: "The copy differs",
        tables: [
          proof("public.ships", { verdict: "different", target: "77 78", differences: ["(id) = (17)", "and 12 more"] }),
          proof("audit.changes", { verdict: "equal as a set", source: "5 6", target: "5 6" }),
        ],
        sequences: [{ name: '"public"."ships_id_seq"', source: "20000", target: "19999" }],
        schema: { compared: 200, differences: ["INDEX public.ships_cargo_idx: missing"] },
      }),
    );
    const text = textOf(page);
    expect(text).toContain(
      "Different: 1 table, 1 sequence, 1 schema object not equal to the source; nothing was changed",
    );
    expect(page).toContain('id="differences"');
    for (const said of ["The copy differs", "(id) = (17)", "and 12 more", "≠ different", "✓ equal as a set", "19999"]) {
      expect(text).toContain(said);
    }
    expect(text).toContain("INDEX public.ships_cargo_idx: missing");
  });

  test("for a failure shows the error, and says that nothing was changed", () => {
    const nothing = { tables: [], sequences: [], schema: { compared: 0, differences: [] }, rows: 0, bytes: 0 };
    const error = "line one\n  line two";
    const page = reportPage(report({ verdict: "failed", error, ...nothing, spans: [], alembicRevision: undefined }));
    expect(textOf(page)).toContain("Failed: stopped after 5.0 s; nothing was changed");
    expect(page).toContain(`>${error}</pre>`);
    expect(page).toContain("The import ended before all tables were compared.");
    expect(page).not.toMatch(/undefined|NaN|Infinity|\[object/);
  });

  test("for an identical copy names definitions that PostgreSQL reworded with the same meaning", () => {
    const page = reportPage(report({ schema: { compared: 9, differences: [], reworded: ["view public.v"] } }));
    expect(textOf(page)).toContain("view public.v");
    expect(textOf(page)).toContain("1 object reworded by PostgreSQL, with the same meaning");
    expect(textOf(page)).not.toContain("not as on the source");
  });

  test("for an identical copy refers to the remarks about accepted differences", () => {
    const page = reportPage(report({ schema: { compared: 9, differences: ["extension citext: version 1.5"] } }));
    expect(textOf(page)).toContain("extension citext: version 1.5");
    expect(textOf(page)).toContain("the remarks say why each of these was accepted");
  });
});

describe("the content of the report", () => {
  test("has every table with its rows and both whole fingerprints", () => {
    const tables = Array.from({ length: 120 }, (_, index) =>
      proof(`public.table_${index}`, { source: `${HASH}s${index}`, target: `${HASH}t${index}` }),
    );
    const page = reportPage(report({ tables }));
    for (const { table, source, target } of tables) {
      expect(page).toContain(`<th scope="row"><code>${table}</code></th>`);
      expect(page).toContain(`<code>${source}</code>`);
      expect(page).toContain(`<code>${target}</code>`);
    }
  });

  test("has the versions, times, sequences, omitted objects, remarks and spans", () => {
    const text = textOf(reportPage(report()));
    for (const said of [
      "ep-cool-name.neon.tech/sectorwars",
      "16.4 → 15.18",
      "libc C.UTF-8 → ICU en-US",
      "a7c3e91b04d2",
      "2026-11-23 02:45:43 UTC",
      "52,059 rows/s, 3.8 MB/s",
      "130,305 rows/s, 9.4 MB/s copying",
      "public.ships_id_seq",
      "200 objects compared",
      "schema neon_auth: it is of no use elsewhere",
      "indexes are built anew",
      "index public.ships_cargo_idx: 600 ms, from 1.4 s to 2.0 s",
      "SHA-256",
    ]) {
      expect(text).toContain(said);
    }
  });

  test("has one h1, and every link of its table of contents leads to an id", () => {
    const page = reportPage(report());
    expect(page.match(/<h1/g)).toHaveLength(1);
    const links = [...page.matchAll(/href="([^"]*)"/g)].map(([, link]) => link ?? "");
    expect(links.length).toBeGreaterThan(5);
    for (const link of links) expect(page).toContain(`id="${link.slice(1)}"`);
  });
});

test("the report escapes every value that comes from a database", () => {
  const evil = `"><script>alert('x')</script><img src=x onerror="alert(1)"> &amp;`;
  const clean = reportPage(report({ verdict: "different", error: "e" }));
  const page = reportPage({
    verdict: "different",
    stack: evil,
    furtherDatabase: evil,
    command: evil,
    error: evil,
    source: evil,
    sourceVersion: evil,
    targetVersion: evil,
    collations: { source: evil, target: evil },
    alembicRevision: evil,
    startedAt: evil,
    seconds: 5,
    rows: 1,
    bytes: 1,
    tables: [proof(evil, { source: evil, target: `${evil}2`, verdict: "different", differences: [evil] })],
    sequences: [{ name: evil, source: evil, target: `${evil}2` }],
    schema: { compared: 1, differences: [evil] },
    skipped: [{ what: evil, why: evil }],
    remarks: [evil],
    spans: [
      { name: `rows ${evil}`, from: 0, to: 5000 },
      { name: evil, from: 0, to: 5000 },
      { name: evil.replaceAll(" ", ""), from: 0, to: 5000 },
    ],
  });
  expect(page).not.toMatch(/<script|<img|alert\('|onerror="/i);
  expect(page.split(escapeText(evil)).length).toBeGreaterThan(20);
  // No name can add an element to the page.
  const elements = (text: string) => new Set([...text.matchAll(/<([a-z0-9]+)/gi)].map(([, tag]) => tag));
  for (const element of elements(page)) expect([...elements(clean), "h3"]).toContain(element);
});

test("the report is one file without scripts and without references to other files", () => {
  const page = reportPage(report());
  expect(page).toMatch(/^<!doctype html>/);
  expect(page).toContain("default-src 'none'");
  expect(page).not.toMatch(/https?:\/\/|<script|<link|<iframe|<object|<base|\ssrc=|url\(|@import|\son[a-z]+=/i);
  for (const [, target] of page.matchAll(/href="([^"]*)"/g)) expect(target).toMatch(/^#/);
});

test("html escapes values except markup, and omits undefined and false", () => {
  expect(html`<p title="${`"'`}">${"<b>&"}${html`<i>${1}</i>`}${[undefined, false, "x"]}</p>`.markup).toBe(
    '<p title="&quot;&#39;">&lt;b&gt;&amp;<i>1</i>x</p>',
  );
});

test.each([
  [0, "0 ms"],
  [999.6, "1.0 s"],
  [5006, "5.0 s"],
  [60_000, "1 min"],
  [125_400, "2 min 5 s"],
  [3_600_000, "1 h"],
  [3_725_000, "1 h 2 min"],
])("duration writes %d ms as %s", (milliseconds, said) => expect(duration(milliseconds)).toBe(said));

test("packLanes puts spans into one lane only if they do not overlap", () => {
  const span = (name: string, from: number, to: number) => ({ name, from, to });
  const [a, b, c, d] = [span("a", 0, 10), span("b", 0, 15), span("c", 10, 20), span("d", 15, 16)] as const;
  expect(packLanes([d, c, b, a])).toEqual([
    [a, c],
    [b, d],
  ]);
  expect(packLanes([])).toEqual([]);
});
