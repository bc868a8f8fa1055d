/** The report's timeline: what happened when, and at the same time. */

import type { Span } from "../types.ts";
import { duration, type Html, html, table } from "./html.ts";

/** Kinds of work, by the first word of a span's name. A name with one word is a phase. */
const KINDS: Record<string, string> = {
  rows: "rows copied",
  keys: "keys",
  index: "indexes built",
  proof: "read back and proven",
};

/** Most spans that are drawn and listed. With thousands of tables, the others would be too thin to see and make the page large. */
const DRAWN = 240;
const LISTED = 40;

/** Width in pixels below which the drawing scrolls; labels must fit at this width. */
const NARROWEST = 940;
const CHARACTER = 6.2;
/** Fewest characters of a shortened name. */
const SHORTEST = 6;
const PADDING = 6;

/** Heights of the drawing's parts in pixels. */
const AXIS = 24;
const PHASE = 28;
const FUNNEL = 22;
const LANE = 26;
const GAP = 4;

/** Distances of the axis' marks in milliseconds. */
const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
  1_200_000, 1_800_000, 3_600_000, 7_200_000,
];

const length = ({ from, to }: Span) => to - from;
const isPhase = ({ name }: Span) => !name.includes(" ");
const byLength = (a: Span, b: Span) => length(b) - length(a);

/** Splits a span's name into kind and object: "index public.ships_idx" is an index, public.ships_idx. */
function partsOf({ name }: Span): { kind: string; what: string } {
  const space = name.indexOf(" ");
  const kind = name.slice(0, space);
  return kind in KINDS ? { kind, what: name.slice(space + 1) } : { kind: "other", what: name };
}

/**
 * Packs spans into as few lanes as possible without overlaps. A span takes the free lane that became free last, so the work of one
 * connection mostly stays in one lane.
 */
export function packLanes(spans: readonly Span[]): Span[][] {
  const lanes: Span[][] = [];
  const end = (lane: Span[]) => lane.at(-1)?.to ?? 0;
  for (const span of [...spans].sort((a, b) => a.from - b.from || a.to - b.to)) {
    const free = lanes.filter((lane) => end(lane) <= span.from).sort((a, b) => end(b) - end(a))[0];
    if (free) free.push(span);
    else lanes.push([span]);
  }
  return lanes;
}

/** Returns the longest label that fits: name and duration, the name alone, its beginning, or none. */
function labelFor(name: string, time: string, percent: number): string {
  const room = Math.floor(((percent / 100) * NARROWEST - 2 * PADDING) / CHARACTER);
  const short = name.replace(/^public\./, "");
  const fitting = [`${name} ${time}`, `${short} ${time}`, name, short].find((label) => label.length <= room);
  return fitting ?? (room >= SHORTEST ? `${short.slice(0, room - 1)}…` : "");
}

/** The time range that the drawing's width shows. */
interface Range {
  from: number;
  to: number;
}

const percentOf = (milliseconds: number, { from, to }: Range) => (milliseconds / (to - from)) * 100;
const place = (at: number, range: Range) => percentOf(at - range.from, range).toFixed(3);

/** One bar, in its own svg element, which clips a label whose letters are wider than expected. */
function bar(span: Span, range: Range, top: number, height: number): Html {
  const { kind, what } = isPhase(span) ? { kind: "phase", what: span.name } : partsOf(span);
  // A minimum width, so that a span of 0 ms is visible.
  const percent = Math.max(percentOf(length(span), range), 0.12);
  const time = duration(length(span));
  const label = labelFor(what, time, percent);
  return html`<svg class="bar ${kind}" x="${place(span.from, range)}%" y="${top}" width="${percent.toFixed(3)}%" height="${height}"><title>${span.name}: ${time}, from ${duration(span.from)} to ${duration(span.to)}</title><rect width="100%" height="100%" rx="2"/>${label && html`<text x="${PADDING}" y="${height / 2}">${label}</text>`}</svg>\n`;
}

/** Returns a mark's time, with enough decimals to distinguish it from its neighbours. */
function markText(at: number, step: number): string {
  if (at === 0) return "0";
  if (at >= 60_000 || step >= 60_000) return duration(at);
  const decimals = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3;
  return `${(at / 1000).toFixed(decimals)} s`;
}

function axis(range: Range, top: number, height: number): Html[] {
  const span = range.to - range.from;
  const step = STEPS.find((candidate) => span / candidate <= 8) ?? Math.ceil(span / 8);
  const first = Math.ceil(range.from / step);
  const marks = Array.from({ length: Math.floor(range.to / step) - first + 1 }, (_, index) => (first + index) * step);
  return marks.map((at) => {
    const x = `${place(at, range)}%`;
    // A mark at the end has no room to its right.
    const [anchor, offset] = range.to - at < span / 20 ? ["end", -5] : ["start", 5];
    return html`<line x1="${x}" x2="${x}" y1="${top}" y2="${top + height}"/><text class="mark" x="${x}" dx="${offset}" y="${top + 10}" text-anchor="${anchor}">${markText(at, step)}</text>\n`;
  });
}

/** The work across the drawing's width, below a funnel that shows which part of the whole time it covers. */
function workbench(lanes: readonly Span[][], whole: Range): Html {
  const spans = lanes.flat();
  const from = Math.min(...spans.map((span) => span.from));
  const range = { from, to: Math.max(...spans.map(({ to }) => to), from + 1) };
  const top = AXIS + PHASE;
  const height = AXIS + lanes.length * (LANE + GAP) + GAP;
  return html`<svg class="stretch" y="${top}" width="100%" height="${FUNNEL}" viewBox="0 0 100 1" preserveAspectRatio="none"><path d="M${place(range.from, whole)} 0H${place(range.to, whole)}L100 1H0z"/></svg>
<rect class="stretch" y="${top + FUNNEL}" width="100%" height="${height}"/>
${axis(range, top + FUNNEL, height)}${lanes.map((lane, index) => lane.map((span) => bar(span, range, top + FUNNEL + AXIS + index * (LANE + GAP), LANE)))}`;
}

function drawing(phases: readonly Span[], lanes: readonly Span[][], whole: Range): Html {
  const work = lanes.length > 0 ? FUNNEL + AXIS + lanes.length * (LANE + GAP) + GAP : 0;
  return html`<div class="scroll" role="region" aria-label="Drawing of the timeline" tabindex="0">
<svg class="timeline" width="100%" height="${AXIS + PHASE + work}" role="img" aria-label="Phases over time and, below them on a larger scale, the work on tables and indexes. The lists that follow have the same as text.">
${axis(whole, 0, AXIS + PHASE)}${lanes.length > 0 && workbench(lanes, whole)}${phases.map((span) => bar(span, whole, AXIS, PHASE))}</svg>
</div>`;
}

/** Returns the timeline: phases in one lane, the work packed into lanes, and both as text. */
export function timeline(spans: readonly Span[], seconds: number): Html {
  if (spans.length === 0) return html`<p class="muted">No phase was completed.</p>`;
  const whole = { from: 0, to: spans.reduce((last, { to }) => Math.max(last, to), Math.max(seconds * 1000, 1)) };
  const phases = spans.filter(isPhase).sort((a, b) => a.from - b.from);
  const work = spans.filter((span) => !isPhase(span)).sort(byLength);
  const lanes = packLanes(work.slice(0, DRAWN));
  const used = Object.entries(KINDS).filter(([kind]) => work.some((span) => partsOf(span).kind === kind));
  const listed = work.slice(0, LISTED);
  return html`${drawing(phases, lanes, whole)}
<ol class="phases" aria-label="Phases">${phases.map((span) => html`<li>${span.name} <b>${duration(length(span))}</b></li>\n`)}</ol>
${used.length > 0 && html`<ul class="legend" aria-label="Colours">${used.map(([kind, meaning]) => html`<li><i class="${kind}"></i>${meaning}</li>\n`)}</ul>`}
${work.length > DRAWN && html`<p class="muted">The longest ${DRAWN} of ${work.length.toLocaleString("en")} spans are drawn.</p>`}
${
  listed.length > 0 &&
  html`<details class="more"><summary>The longest spans, as a table</summary>
${table(
  `The longest ${listed.length} of ${work.length.toLocaleString("en")} spans of work`,
  [{ text: "What" }, { text: "Work" }, { text: "Begins", numeric: true }, { text: "Takes", numeric: true }],
  listed.map((span) => {
    const { kind, what } = partsOf(span);
    return [html`<code>${what}</code>`, KINDS[kind] ?? "", duration(span.from), duration(length(span))];
  }),
)}</details>`
}`;
}
