/** What a reader of the report does next, as commands and pages of the documentation. */
import { type Content, type Html, html } from "./report-html.ts";
import type { Report } from "./types.ts";

/** A command or a page, and what it is for. */
type Step = readonly [what: string, purpose: Content];

/** The stack's name as the commands take it; they use `dev` where no other is selected, as script/up does. */
const flagFor = (stack: string) => (stack === "dev" ? "" : ` --stack ${stack}`);

const PROVEN: Step = ["docs/import.md", "what is proven, and how"];

/** After an import whose copy is the database now. */
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
      html`compares the database with its source again, at any time; <code>NEON_DATABASE_URL</code> names the source`,
    ],
    ["docs/application.md", "how the application gets the database"],
    ["docs/snapshots.md", "how to save the database, and how to reset it to this import"],
    PROVEN,
  ];
}

/** After an import that has changed nothing. */
function afterFailure({ verdict, stack, furtherDatabase, command }: Report): Step[] {
  const of = flagFor(stack);
  const looks: Step[] = [
    [`./db preflight${of}`, "reports everything that stops an import, with its remedy; reads only"],
    [`./db doctor${of}`, "looks at this machine and at the stack"],
  ];
  return [
    // Other databases have no preflight of their own, and what differs is no obstacle that one could find.
    ...(verdict === "failed" && furtherDatabase === undefined ? looks : looks.slice(1)),
    [`${command}${of}`, "imports again"],
    ["docs/import.md", "what the messages mean, and what is proven"],
  ];
}

/** Names what comes after the import: commands that can be copied, and the pages that say more. */
export function nextSteps(report: Report): Html {
  const isDone = report.verdict === "identical" || report.verdict === "selected";
  const steps = isDone ? afterSuccess(report) : afterFailure(report);
  return html`<p class="muted">In the project’s folder:</p>
<dl class="steps">${steps.map(([what, purpose]) => html`<div><dt><code>${what}</code></dt><dd>${purpose}</dd></div>\n`)}</dl>`;
}
