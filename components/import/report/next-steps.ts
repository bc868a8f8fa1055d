/** The report's next steps: commands and pages of the documentation. */

import type { Report } from "../types.ts";
import { type Content, type Html, html } from "./html.ts";

/** A command or a page, and its purpose. */
type Step = readonly [what: string, purpose: Content];

/** Returns the option that selects the stack; without it, the commands use `dev`, as script/up does. */
const flagFor = (stack: string) => (stack === "dev" ? "" : ` --stack ${stack}`);

const PROVEN: Step = ["docs/import.md", "what is proven, and how"];

/** Returns the steps after a successful import. */
function afterSuccess({ stack, furtherDatabase }: Report): Step[] {
  const of = flagFor(stack);
  if (furtherDatabase !== undefined) {
    return [
      [`./db url${of} --database ${furtherDatabase}`, "prints the connection URL of the application’s role"],
      [`./db psql${of} -d ${furtherDatabase}`, "opens a prompt in the database"],
      ["docs/application.md", "how the application gets the database"],
      PROVEN,
    ];
  }
  return [
    [`./db url${of}`, "prints the connection URL of the application’s role"],
    [`./db psql${of}`, "opens a prompt in the database"],
    [
      `./db verify${of}`,
      html`compares the database with its source again, at any time; <code>NEON_DATABASE_URL</code> must hold the source’s URL`,
    ],
    ["docs/application.md", "how the application gets the database"],
    ["docs/snapshots.md", "how to save the database, and how to reset it to this import"],
    PROVEN,
  ];
}

/** Returns the steps after a failed import, which has changed nothing. */
function afterFailure({ verdict, stack, furtherDatabase, command }: Report): Step[] {
  const of = flagFor(stack);
  const looks: Step[] = [
    [`./db preflight${of}`, "reports everything that stops an import, with its remedy; reads only"],
    [`./db doctor${of}`, "checks this machine and the stack"],
  ];
  return [
    // Further databases have no preflight, and a preflight does not find differences.
    ...(verdict === "failed" && furtherDatabase === undefined ? looks : looks.slice(1)),
    [`${command}${of}`, "imports again"],
    ["docs/import.md", "what the messages mean, and what is proven"],
  ];
}

/** Returns the next steps as markup: commands to copy, and pages to read. */
export function nextSteps(report: Report): Html {
  const isDone = report.verdict === "identical" || report.verdict === "selected";
  const steps = isDone ? afterSuccess(report) : afterFailure(report);
  return html`<p class="muted">In the project’s folder:</p>
<dl class="steps">${steps.map(([what, purpose]) => html`<div><dt><code>${what}</code></dt><dd>${purpose}</dd></div>\n`)}</dl>`;
}
