/** The report's style sheet. Colours have a contrast of at least 4.5 to 1, in light and dark mode. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #fbfbf9; --panel: #ffffff; --ink: #1a1d21; --muted: #5b636d; --line: #e3e4e0; --grid: #ecece8; --link: #234f9e;
  --good: #17663d; --good-tint: #e6f2ea; --bad: #a11f2c; --bad-tint: #fbe9e9;
  --chosen: #7a4b00; --chosen-tint: #fbf0dc;
  --phase: #e6e9ee; --phase-edge: #858e99; --stretch: #f3f4f2; --other: #535c68; --rows: #3560b0; --keys: #735096; --index: #93560a; --proof: #24734a; --label: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121416; --panel: #181b1e; --ink: #e5e7e9; --muted: #9ba4ae; --line: #2b3035; --grid: #22262a; --link: #9dbdf5;
    --good: #7ccf9f; --good-tint: #1a2d23; --bad: #ff9a9a; --bad-tint: #351e20;
    --chosen: #f0c274; --chosen-tint: #33290f;
    --phase: #2a3037; --phase-edge: #78818c; --stretch: #1f2327; --other: #a3adb9; --rows: #8fb1ee; --keys: #c2a6e2; --index: #dfae68; --proof: #83cda4; --label: #14171a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 48px 32px 96px; }
code, pre { font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .86em; }
/* A name may hold right-to-left letters; isolate them from the text around. */
code { unicode-bidi: isolate; overflow-wrap: anywhere; }
h1, h2, h3, p, dl, ol, ul { margin: 0; }
h2 { margin-bottom: 14px; font-size: 18px; font-weight: 600; letter-spacing: -.01em; line-height: 1.3; }
h3 { margin: 18px 0 6px; font-size: 15px; font-weight: 600; overflow-wrap: anywhere; }
section { margin-top: 52px; }
section, h2 { scroll-margin-top: 20px; }
section > ul { padding-left: 1.2em; max-width: 46em; }
section > ul li { margin: 4px 0; overflow-wrap: anywhere; }
section > p { max-width: 46em; }
section > p + ul, section > ul + p { margin-top: 8px; }
section > p + .scroll { margin-top: 14px; }
small { font-size: 12px; font-weight: 400; color: var(--muted); }
small code { font-size: .94em; }
.muted { color: var(--muted); }
.hidden { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
a { color: var(--link); text-underline-offset: 3px; text-decoration-thickness: 1px; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 3px; border-radius: 3px; }

.kind { margin-bottom: 12px; color: var(--muted); font-size: 13px; font-weight: 500; }
h1 { display: flex; gap: 16px; font-size: 30px; font-weight: 500; letter-spacing: -.022em; line-height: 1.22; text-wrap: balance; font-variant-numeric: tabular-nums; }
h1 strong { font-weight: 650; color: var(--tone); }
h1 svg { flex: none; width: 36px; height: 36px; }
h1 circle { fill: var(--tone); }
h1 path { fill: none; stroke: var(--page); stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.verdict { --tone: var(--bad); }
.verdict.identical { --tone: var(--good); } .verdict.selected { --tone: var(--chosen); }
.meaning { max-width: 46em; margin-top: 14px; color: var(--muted); }
.error {
  margin: 22px 0 0; padding: 16px 18px; border: 1px solid var(--line); border-left: 3px solid var(--bad); border-radius: 4px;
  background: var(--bad-tint); font-size: 13px; line-height: 1.6; white-space: pre-wrap; overflow-wrap: anywhere;
}
section:has(> .facts) { margin-top: 34px; }
.facts { display: grid; grid-template-columns: repeat(4, 1fr); border: 1px solid var(--line); border-radius: 8px; background: var(--line); gap: 1px; overflow: hidden; }
.facts div { padding: 14px 18px 15px; background: var(--panel); }
.facts div:first-child { grid-column: span 2; }
/* An eighth fact begins a row of its own and must fill it. */
.facts div:nth-child(8) { grid-column: 1 / -1; }
.facts dt { color: var(--muted); font-size: 12.5px; }
.facts dd { margin: 2px 0 0; font-weight: 500; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
nav { margin-top: 22px; font-size: 13.5px; }
nav ul { display: flex; flex-wrap: wrap; gap: 6px 22px; padding: 0; list-style: none; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }

/* A focused element in a box is scrolled into view with the ring around it. */
.scroll { overflow-x: auto; scroll-padding: 8px; border: 1px solid var(--line); border-radius: 8px; background: var(--panel); }
.timeline { display: block; min-width: 940px; overflow: visible; }
.scroll:has(> .timeline) { padding: 14px 16px 12px; }
.timeline line { stroke: var(--line); }
.stretch { fill: var(--stretch); }
.timeline text { font-size: 11px; fill: var(--label); dominant-baseline: central; }
.timeline text.mark { fill: var(--muted); font-size: 11.5px; }
.bar rect { fill: var(--other); stroke: var(--stretch); stroke-width: .5; }
.phase rect { fill: var(--phase); stroke: var(--phase-edge); stroke-width: 1; } .timeline .phase text { fill: var(--ink); }
.rows rect { fill: var(--rows); } .keys rect { fill: var(--keys); } .index rect { fill: var(--index); } .proof rect { fill: var(--proof); }
.bar:hover rect { opacity: .82; }
.phases, .legend { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; list-style: none; font-size: 13px; color: var(--muted); }
.phases, .legend { max-width: none !important; margin-top: 12px; }
.phases b { color: var(--ink); font-weight: 500; font-variant-numeric: tabular-nums; }
.legend { margin-top: 6px; }
.legend i { display: inline-block; width: 10px; height: 10px; margin-right: 7px; border-radius: 2px; background: var(--other); }
.legend .rows { background: var(--rows); } .legend .keys { background: var(--keys); } .legend .index { background: var(--index); } .legend .proof { background: var(--proof); }
.more { margin-top: 14px; }
.more summary { width: fit-content; margin-bottom: 10px; color: var(--link); font-size: 13.5px; cursor: pointer; }

table { width: 100%; border-collapse: collapse; font-size: 13.5px; line-height: 1.45; font-variant-numeric: tabular-nums; }
caption { padding: 12px 16px 8px; color: var(--muted); font-size: 13px; text-align: left; }
th, td { padding: 7px 11px; text-align: left; vertical-align: top; white-space: nowrap; font-weight: 400; }
/* Names and notes of any length leave room for the columns beside them. */
tbody th { max-width: min(22em, 44vw); white-space: normal; }
th code { overflow-wrap: break-word; }
td small { display: block; min-width: 14em; max-width: 30em; margin-top: 3px; white-space: normal; overflow-wrap: anywhere; }
:is(th, td):first-child { padding-left: 16px; } :is(th, td):last-child { padding-right: 16px; }
thead th { color: var(--muted); font-size: 12.5px; border-bottom: 1px solid var(--line); }
tbody tr + tr > * { border-top: 1px solid var(--grid); }
tbody tr:hover > * { background: color-mix(in srgb, var(--grid) 45%, transparent); }
.number { text-align: right; }
.badge { display: inline-block; padding: 0 8px; border-radius: 9px; font-size: 12.5px; white-space: nowrap; }
.good { color: var(--good); background: var(--good-tint); } .bad { color: var(--bad); background: var(--bad-tint); font-weight: 600; }
.chosen { color: var(--chosen); background: var(--chosen-tint); }
.prints summary { cursor: pointer; white-space: nowrap; color: var(--muted); }
.prints summary code { color: var(--ink); }
.prints dl { width: 34ch; margin: 6px 0 4px; padding-left: 14px; white-space: normal; }
.prints dt { margin-top: 4px; color: var(--muted); font-size: 12px; }
.prints dd { margin: 0; }
.prints dd code { user-select: all; -webkit-user-select: all; }
.explained { display: grid; grid-template-columns: 9em 1fr; gap: 14px 24px; max-width: 56em; margin-top: 16px; }
.explained dt { font-weight: 600; } .explained dd { margin: 0; } .explained em { font-style: normal; font-weight: 600; }
.steps { margin-top: 12px; border: 1px solid var(--line); border-radius: 8px; background: var(--line); display: grid; gap: 1px; overflow: hidden; }
.steps div { display: grid; grid-template-columns: minmax(18em, auto) 1fr; gap: 2px 24px; padding: 9px 16px; background: var(--panel); }
.steps dd { margin: 0; color: var(--muted); }
.steps dt code { user-select: all; -webkit-user-select: all; }

@media (max-width: 860px) { .facts { grid-template-columns: repeat(2, 1fr); } }
@media (max-width: 560px) {
  main { padding: 28px 16px 64px; }
  h1 { gap: 12px; font-size: 23px; } h1 svg { width: 28px; height: 28px; }
  section { margin-top: 40px; }
  .facts, .explained { grid-template-columns: 1fr; } .facts div:first-child { grid-column: auto; }
  .facts div { padding: 10px 14px 11px; }
  .explained { gap: 2px; } .explained dd { margin-bottom: 14px; }
  caption { padding: 10px 12px 6px; }
  .steps div { grid-template-columns: 1fr; padding: 9px 12px; }
  tbody th { max-width: 40vw; }
  th, td { padding: 7px 8px; } :is(th, td):first-child { padding-left: 12px; }
  td small { min-width: 0; max-width: 40vw; }
}
@media print {
  body { background: none; } main { max-width: none; padding: 0; } nav { display: none; }
  .scroll { overflow: visible; } details::details-content { content-visibility: visible; height: auto; }
}
`;
