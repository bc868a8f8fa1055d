/** The report of an import as one HTML page. It is self-contained: no network, no script. */
import { humanBytes } from "../../../lib/human-bytes.ts";
import { describeSelection } from "../selection/selection.ts";
import type { Report, SafetyCopyFacts, TableProof } from "../types.ts";
import { type Content, duration, type Html, html, raw, table } from "./html.ts";
import { nextSteps } from "./next-steps.ts";
import { STYLE } from "./style.ts";
import { timeline } from "./timeline.ts";

/** Characters of a fingerprint that are shown first: enough to distinguish two by eye. */
const SHORT = 10;

const count = (value: number) => value.toLocaleString("en");
const plural = (value: number, one: string, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
const rate = (rows: number, bytes: number, seconds: number) =>
  rows > 0 && seconds > 0
    ? `${count(Math.round(rows / seconds))} rows/s, ${humanBytes(Math.round(bytes / seconds))}/s`
    : "not measured";

/** Removes quotes that PostgreSQL does not need. */
const plainName = (name: string) => name.replace(/^"([a-z_][a-z0-9_]*)"\."([a-z_][a-z0-9_]*)"$/, "$1.$2");

const differingTables = (report: Report) => report.tables.filter(({ verdict }) => verdict === "different");
const differingSequences = (report: Report) => report.sequences.filter(({ source, target }) => source !== target);

const section = (id: string, title: string, content: Content): Html =>
  html`<section aria-labelledby="${id}">\n<h2 id="${id}">${title}</h2>\n${content}\n</section>\n`;

const list = (items: readonly Content[], nothing: string): Html =>
  items.length === 0
    ? html`<p class="muted">${nothing}</p>`
    : html`<ul>${items.map((item) => html`<li>${item}</li>\n`)}</ul>`;

/** Returns the verdict's word and the rest of the headline. */
export function headline(report: Report): { word: string; rest: string } {
  switch (report.verdict) {
    case "identical": {
      const { tables, rows, bytes, seconds } = report;
      const what = `${plural(tables.length, "table")}, ${plural(rows, "row")}, ${humanBytes(bytes)}`;
      return { word: "Identical", rest: `${what} proven equal in ${duration(seconds * 1000)}` };
    }
    case "selected": {
      const { tables, rows, seconds } = report;
      const what = `${plural(tables.length, "table")}, ${plural(rows, "row")}`;
      return {
        word: "Identical except for",
        rest: `${describeSelection(tables)}; ${what} as the source sent them in ${duration(seconds * 1000)}`,
      };
    }
    case "different": {
      const found = [
        [differingTables(report).length, "table"] as const,
        [differingSequences(report).length, "sequence"] as const,
        [report.schema.differences.length, "schema object"] as const,
      ].filter(([number]) => number > 0);
      const what = found.map(([number, name]) => plural(number, name)).join(", ") || "the copy";
      return { word: "Different", rest: `${what} not equal to the source; nothing was changed` };
    }
    case "failed":
      return { word: "Failed", rest: `stopped after ${duration(report.seconds * 1000)}; nothing was changed` };
  }
}

const MEANING: Record<Report["verdict"], string> = {
  identical:
    "Every copied row, sequence and definition was compared with the source before the copy replaced the target’s database. " +
    "The source was only read.",
  selected:
    "The settings select a part of the source: the tables marked below were excluded, reduced or masked on the source, and are " +
    "not equal to it. Their rows were compared with what the source sent, everything else with the source itself.",
  different:
    "The copy differed from the source, so it was dropped. The target is as it was, and the source was only read: nothing was " +
    "changed.",
  failed:
    "The import ended before the copy replaced the target’s database, and the staging database was dropped. The target is as " +
    "it was, and the source was only read: nothing was changed.",
};

const MARK: Record<Report["verdict"], string> = {
  identical: '<path d="m6.5 12.5 3.8 3.8 7.4-8"/>',
  selected: '<path d="M6.5 12h11"/>',
  different: '<path d="M7 9.5h10M7 14.5h10M14.5 6l-5 12"/>',
  failed: '<path d="m8 8 8 8m0-8-8 8"/>',
};

function verdict(report: Report): Html {
  const { word, rest } = headline(report);
  return html`<header class="verdict ${report.verdict}">
<p class="kind">Database import</p>
<h1><svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="11"/>${raw(MARK[report.verdict])}</svg><span><strong>${word}:</strong> ${rest}</span></h1>
<p class="meaning">${MEANING[report.verdict]}</p>
${report.error !== undefined && html`<pre class="error" role="region" aria-label="Error" tabindex="0">${report.error}</pre>`}
</header>\n`;
}

function facts(report: Report): Html {
  const { source, collations, seconds, rows, bytes } = report;
  const copying = report.spans.find(({ name }) => name === "rows");
  const when = report.startedAt.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");
  const pairs: [string, Content, Content?][] = [
    ["Source", source],
    ["PostgreSQL", `${report.sourceVersion} → ${report.targetVersion}`, "source → copy"],
    ["Collation", `${collations.source} → ${collations.target}`, "source → copy"],
    ["Alembic revision", report.alembicRevision ? html`<code>${report.alembicRevision}</code>` : "none"],
    ["Started", html`<time datetime="${report.startedAt}">${when}</time>`],
    ["Duration", duration(seconds * 1000)],
    [
      "Throughput",
      html`${rate(rows, bytes, seconds)}${copying && html`<br><small>${rate(rows, bytes, (copying.to - copying.from) / 1000)} copying</small>`}`,
    ],
  ];
  if (report.safetyCopy) pairs.push(["Safety copy", safetyCopy(report.safetyCopy), "encrypted"]);
  return html`<section aria-labelledby="facts"><h2 id="facts" class="hidden">Key facts</h2>
<dl class="facts">${pairs.map(([name, value, note]) => html`<div><dt>${name}${note && html` <small>${note}</small>`}</dt><dd>${value}</dd></div>\n`)}</dl></section>\n`;
}

function safetyCopy({ name, path, bytes, sha256, verified, partial }: SafetyCopyFacts): Html {
  const proof =
    verified === "decrypted" ? "decrypted, and equal to what the source sent" : "read back as written; not decrypted";
  return html`<code title="${path}">${name}</code><br><small>${humanBytes(bytes)}, ${proof}${partial && "; of the selection, not of the whole source"}</small><br><small>SHA-256 <code>${sha256}</code></small>`;
}

/** Links to the sections, each with the number of its entries. */
const contents = (report: Report): Html =>
  html`<nav aria-label="Contents"><ul>${[
    ["next", "Next steps", undefined] as const,
    ["timeline", "Timeline", undefined] as const,
    ["tables", "Tables", report.tables.length] as const,
    ...(differingTables(report).length > 0
      ? [["differences", "Differences", differingTables(report).length] as const]
      : []),
    ["sequences", "Sequences", report.sequences.length] as const,
    ["schema", "Schema", report.schema.compared] as const,
    ["skipped", "Left out", report.skipped.length] as const,
    ["remarks", "Remarks", report.remarks.length] as const,
    ["proof", "What the proof means", undefined] as const,
  ].map(
    ([id, title, number]) =>
      html`<li><a href="#${id}">${title}${number !== undefined && html` <small>${count(number)}</small>`}</a></li>\n`,
  )}</ul></nav>\n`;

const badge = (text: string, good: boolean): Html =>
  html`<span class="badge ${good ? "good" : "bad"}">${good ? "✓" : "≠"} ${text}</span>`;

/** A table's verdict. A selected table has its own colour and sign, because it is neither equal nor wrong. */
const verdictBadge = ({ verdict, selected }: TableProof): Html =>
  selected !== undefined && verdict !== "different"
    ? html`<span class="badge chosen">− ${verdict}</span><small>${selected}</small>`
    : badge(verdict, verdict !== "different");

const shorten = (fingerprint: string) =>
  fingerprint.length > SHORT ? `${fingerprint.slice(0, SHORT)}…` : fingerprint || "none";

/** Both fingerprints: their beginnings side by side, and in full when opened. One click selects a full one. */
const fingerprints = ({ source, target }: TableProof): Html =>
  html`<details class="prints"><summary><code title="source: ${source}">${shorten(source)}</code> ${source === target ? "=" : "≠"} <code title="copy: ${target}">${shorten(target)}</code></summary>
<dl><dt>Source</dt><dd><code>${source}</code></dd><dt>Copy</dt><dd><code>${target}</code></dd></dl></details>`;

function tables(report: Report): Html {
  if (report.tables.length === 0) return html`<p class="muted">The import ended before all tables were compared.</p>`;
  const legend =
    report.tables.some(({ selected }) => selected !== undefined) &&
    html`<p class="muted">${badge("equal", true)} the rows are the source’s. <span class="badge chosen">− masked, subset, excluded, schema only</span> the settings select or mask rows: these are proven to match what the source sent, and not the source’s whole table.</p>\n`;
  return html`${legend}${table(
    `${plural(report.tables.length, "table")}, largest first`,
    [
      { text: "Table" },
      // Next to the name, so that a narrow screen shows it without scrolling.
      { text: "Verdict" },
      { text: "Rows", numeric: true },
      { text: "Bytes", numeric: true },
      { text: "Seconds", numeric: true },
      { text: "Format" },
      { text: "Fingerprints of source and copy" },
    ],
    [...report.tables]
      .sort((a, b) => b.bytes - a.bytes)
      .map((proof) => [
        html`<code>${proof.table}</code>`,
        verdictBadge(proof),
        count(proof.rows),
        count(proof.bytes),
        proof.seconds.toFixed(3),
        proof.format,
        fingerprints(proof),
      ]),
  )}`;
}

/** The rows that differ, table by table; undefined if no rows differ. */
function differences(report: Report): Html | undefined {
  const found = differingTables(report);
  if (found.length === 0) return undefined;
  return section(
    "differences",
    "Differences",
    found.map(
      (proof) =>
        html`<h3><code>${proof.table}</code></h3>\n${list(
          (proof.differences ?? []).map((line) => html`<code>${line}</code>`),
          "The differing rows were not listed.",
        )}\n`,
    ),
  );
}

function sequences(report: Report): Html {
  if (report.sequences.length === 0) return html`<p class="muted">No sequence was compared.</p>`;
  return table(
    `${plural(report.sequences.length, "sequence")}: the last value of each`,
    [{ text: "Sequence" }, { text: "Verdict" }, { text: "Source", numeric: true }, { text: "Copy", numeric: true }],
    report.sequences.map(({ name, source, target }) => [
      html`<code>${plainName(name)}</code>`,
      source === target ? badge("equal", true) : badge("different", false),
      source,
      target,
    ]),
  );
}

function schema({ verdict, schema: { compared, differences, reworded = [] } }: Report): Html {
  if (compared === 0) return html`<p class="muted">The schema was not compared.</p>`;
  const objects = (lines: readonly string[]) =>
    list(
      lines.map((line) => html`<code>${line}</code>`),
      "",
    );
  const again =
    reworded.length > 0 &&
    html`<p>${plural(reworded.length, "object")} reworded by PostgreSQL, with the same meaning: <code>pg_restore</code> restored the source’s definitions in an empty database, where they read as in the copy.</p>
${objects(reworded)}`;
  if (differences.length === 0)
    return html`<p>${plural(compared, "object")} compared, each defined as on the source. ${badge("equal", true)}</p>
${again}`;
  return html`<p>${plural(compared, "object")} compared. Different from the source:</p>
${objects(differences)}
${(verdict === "identical" || verdict === "selected") && html`<p>No object is missing or extra; the remarks say why each of these was accepted.</p>`}
${again}`;
}

const PROOF = html`<p>Each comparison is between what the source sent and what the finished copy holds, and not only between row counts.</p>
<dl class="explained">
<dt>Rows</dt><dd>All tables are read inside <em>one exported snapshot</em> of the source, so they all show the same point in time, whatever is written there meanwhile. The import computes a <em>SHA-256</em> of each table’s <code>COPY</code> stream, from the first byte to the last. Then it reads the copy back the same way and computes the digest again: equal digests mean equal bytes, in the same order.</dd>
<dt>Sets of rows</dt><dd>If the order of the rows differs, or the server computes columns that are not sent, all rows are compared as a set: source and target each compute a fingerprint of <em>128 bits</em>, two independent sums of 64-bit hashes, which changes with any value and with any lost or duplicated row.</dd>
<dt>Sequences</dt><dd>Snapshots do not cover sequences. Each one is set to the source’s value, then read back.</dd>
<dt>Schema</dt><dd>The same <code>pg_dump</code> reads both databases, and the definitions are compared object by object, in both directions. PostgreSQL may reword an expression when it reads it again. If texts differ, <code>pg_restore</code> restores the source’s definitions in an empty database, and the text there must equal the copy’s. Owners and privileges are not compared; the target has its own.</dd>
</dl>`;

/**
 * Returns the whole page as self-contained HTML. Everything that comes from a database or a server is escaped, and a content security
 * policy blocks scripts and requests.
 */
export function reportPage(report: Report): string {
  const { word, rest } = headline(report);
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${word}: ${rest}</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<main>
${verdict(report)}${facts(report)}${contents(report)}${section("next", "Next steps", nextSteps(report))}${section("timeline", "Timeline", timeline(report.spans, report.seconds))}${section("tables", "Tables", tables(report))}${differences(report)}${section("sequences", "Sequences", sequences(report))}${section("schema", "Schema", schema(report))}${section(
  "skipped",
  "Left out",
  list(
    report.skipped.map(({ what, why }) => html`<b>${what}</b>: ${why}`),
    "Nothing was left out.",
  ),
)}${section("remarks", "Remarks", list(report.remarks, "None."))}${section("proof", "What the proof means", PROOF)}</main>
</body>
</html>
`.markup;
}
