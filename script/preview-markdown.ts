/** Formats a preview as Markdown for a pull request, the most important changes first. Used by script/preview. */
import { readFile } from "node:fs/promises";

/** One step in the output of `pulumi preview --json`. */
export interface Step {
  op: string;
  urn: string;
  oldState?: { type: string };
  newState?: { type: string };
  replaceReasons?: string[];
  diffReasons?: string[];
}

/** GitHub allows 65,536 characters in a comment; this is the part for the diff. */
const DIFF_ROOM = 55_000;
/** Types of resources that contain data. */
const HOLDS_DATA = new Set(["docker:index/volume:Volume"]);

const IN_WORDS: Record<string, string> = {
  replace: "replaced",
  delete: "deleted",
  create: "created",
  update: "updated",
  "discard-replaced": "replaced",
  "delete-replaced": "replaced",
  "create-replacement": "replaced",
};
const ORDER = ["deleted", "replaced", "updated", "created"];

interface Change {
  how: string;
  name: string;
  type: string;
  why: string;
  losesData: boolean;
}

const nameOf = (urn: string) => urn.split("::").pop() ?? urn;
const typeOf = (step: Step) => step.newState?.type ?? step.oldState?.type ?? "";
const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");

/** Returns the changes, the most dangerous first. A replacement is one change of three steps. */
export function changesOf(steps: readonly Step[]): Change[] {
  const changes = new Map<string, Change>();
  for (const step of steps) {
    const how = IN_WORDS[step.op];
    if (how === undefined) continue;
    const reasons = step.replaceReasons ?? step.diffReasons ?? [];
    const known = changes.get(step.urn);
    if (known !== undefined && reasons.length === 0) continue;
    changes.set(step.urn, {
      how,
      name: nameOf(step.urn),
      type: typeOf(step),
      why: reasons.join(", "),
      losesData: (how === "deleted" || how === "replaced") && HOLDS_DATA.has(typeOf(step)),
    });
  }
  return [...changes.values()].sort(
    (a, b) =>
      Number(b.losesData) - Number(a.losesData) ||
      ORDER.indexOf(a.how) - ORDER.indexOf(b.how) ||
      (a.name < b.name ? -1 : 1),
  );
}

/** Returns the text of the comment. */
export function previewMarkdown(steps: readonly Step[], diff: string, base: string): string {
  const changes = changesOf(steps);
  const counts = ORDER.map((how) => [how, changes.filter((change) => change.how === how).length] as const).filter(
    ([, n]) => n > 0,
  );
  const summary = counts.length === 0 ? "No changes." : `${counts.map(([how, n]) => `${n} ${how}`).join(", ")}.`;
  const losses = changes.filter((change) => change.losesData);
  const fence = "`".repeat(Math.max(3, ...[...diff.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  const shown =
    diff.length > DIFF_ROOM
      ? `${diff.slice(0, DIFF_ROOM)}\n... truncated, ${diff.length - DIFF_ROOM} more characters`
      : diff;
  return [
    `### Preview against ${base}`,
    "",
    summary,
    ...(losses.length > 0
      ? [
          "",
          `> [!CAUTION]`,
          `> **This loses data:** ${losses.map(({ name, how }) => `\`${name}\` is ${how}`).join(", ")}.`,
        ]
      : []),
    ...(changes.length > 0
      ? [
          "",
          "| change | resource | type | changed properties |",
          "|---|---|---|---|",
          ...changes.map(
            ({ how, name, type, why, losesData }) =>
              `| ${losesData ? `**${how}, loses data**` : how} | \`${cell(name)}\` | ${cell(type)} | ${cell(why)} |`,
          ),
        ]
      : []),
    "",
    "<details><summary>The whole diff</summary>",
    "",
    `${fence}diff`,
    shown.trim(),
    fence,
    "",
    "</details>",
    "",
  ].join("\n");
}

if (import.meta.main) {
  const [json = "", diff = "", base = "", commit = ""] = process.argv.slice(2);
  const text = await readFile(json, "utf8");
  const preview: { steps?: Step[] } = text.trim() === "" ? {} : JSON.parse(text);
  console.log(previewMarkdown(preview.steps ?? [], await readFile(diff, "utf8"), `\`${base}\` (${commit})`));
}
