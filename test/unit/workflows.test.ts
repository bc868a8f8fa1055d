import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { isMap, isScalar, isSeq, type Node, parseDocument, visit } from "yaml";

const FOLDER = ".github/workflows";

interface Step {
  uses?: string;
  run?: string;
  with?: Record<string, unknown>;
  env?: Record<string, unknown>;
}
type Permissions = Record<string, string>;
interface Workflow {
  on: Record<string, unknown>;
  permissions?: Permissions | string;
  jobs: Record<string, { permissions?: Permissions | string; steps?: Step[]; uses?: string; secrets?: unknown }>;
}

const names = readdirSync(FOLDER).filter((name) => /\.ya?ml$/.test(name));
const documents = names.map((name) => ({ name, document: parseDocument(readFileSync(`${FOLDER}/${name}`, "utf8")) }));
const workflows = documents.map(({ name, document }) => ({ name, workflow: document.toJS() as Workflow }));

/** The steps of all jobs. */
const stepsOf = (workflow: Workflow) => Object.values(workflow.jobs).flatMap(({ steps = [] }) => steps);

/** Whether code from outside can start the workflow with its own version of it, or of what it checks out. */
const runsForeignCode = ({ on }: Workflow) => Object.keys(on).includes("pull_request");

/** Every `uses:` with the comment after it. */
function usesOf(document: Node | null): { uses: string; comment: string }[] {
  const found: { uses: string; comment: string }[] = [];
  visit(document, {
    Pair(_, { key, value }) {
      if (!isScalar(key) || key.value !== "uses" || !isScalar(value)) return;
      found.push({ uses: String(value.value), comment: value.comment?.trim() ?? "" });
    },
  });
  return found;
}

describe("the GitHub workflows", () => {
  test("are four files with the structure that these tests expect", () => {
    expect(names).toEqual(["ci.yml", "faults.yml", "preview-comment.yml", "preview.yml"]);
    for (const { document } of documents) {
      expect(document.errors).toEqual([]);
      expect(isMap(document.contents)).toBe(true);
      const jobs = document.get("jobs");
      expect(isMap(jobs)).toBe(true);
      // The checks below do not read `on` as a list or a word.
      expect(isMap(document.get("on"))).toBe(true);
      expect(isSeq(document.get("on"))).toBe(false);
    }
  });

  test.each(workflows)("$name declares all of its permissions", ({ workflow }) => {
    // Without the key, a workflow gets the permissions of the repository's settings, which may be all.
    expect(workflow.permissions).toBeTypeOf("object");
    for (const { permissions } of [workflow, ...Object.values(workflow.jobs)]) {
      expect(["object", "undefined"]).toContain(typeof permissions);
    }
  });

  test.each(workflows)("$name never runs a pull request's code with a token that can write", ({ workflow }) => {
    expect(Object.keys(workflow.on)).not.toContain("pull_request_target");
    if (!runsForeignCode(workflow)) return;
    for (const { permissions } of [workflow, ...Object.values(workflow.jobs)]) {
      for (const granted of Object.values(permissions ?? {})) expect(granted).toBe("read");
    }
  });

  test("have only one with write permission, which neither checks out nor runs a pull request's code", () => {
    const writing = workflows.filter(({ workflow }) =>
      [workflow, ...Object.values(workflow.jobs)].some(({ permissions }) =>
        Object.values(permissions ?? {}).includes("write"),
      ),
    );
    expect(writing.map(({ name }) => name)).toEqual(["preview-comment.yml"]);
    const [{ workflow } = { workflow: undefined }] = writing;
    expect(Object.keys(workflow?.on ?? {})).toEqual(["workflow_run"]);
    const steps = workflow ? stepsOf(workflow) : [];
    for (const { with: given = {} } of steps) expect(Object.keys(given)).not.toContain("ref");
    const download = steps.find(({ uses }) => uses?.startsWith("actions/download-artifact@"));
    expect(download?.with?.path).toMatch(/^\$\{\{ runner\.temp \}\}\//);
    // Only this script reads the artifact.
    const reading = steps.filter(({ run }) => run !== undefined).map(({ run }) => run);
    expect(reading).toEqual(['node script/preview-comment.ts "$RUNNER_TEMP/preview/preview.md"']);
  });

  test.each(workflows)("$name stores no token in the checkout", ({ workflow }) => {
    const checkouts = stepsOf(workflow).filter(({ uses }) => uses?.startsWith("actions/checkout@"));
    expect(checkouts.length).toBeGreaterThan(0);
    for (const { with: given } of checkouts) expect(given?.["persist-credentials"]).toBe(false);
  });

  test.each(documents)("$name pins each action by its commit and names the version", ({ document }) => {
    const all = usesOf(document.contents);
    expect(all.length).toBeGreaterThan(0);
    for (const { uses, comment } of all) {
      expect(uses).toMatch(/^[\w.-]+\/[\w./-]+@[0-9a-f]{40}$/);
      expect(comment).toMatch(/^v\d+\.\d+\.\d+$/);
    }
  });

  test("pin one version of each action", () => {
    const pins = new Set(documents.flatMap(({ document }) => usesOf(document.contents).map(({ uses }) => uses)));
    const actions = [...pins].map((uses) => uses.split("@")[0]);
    expect(actions.sort()).toEqual([...new Set(actions)].sort());
  });

  test.each(workflows)("$name puts no text that others can choose into a shell command", ({ workflow }) => {
    // A branch, a title or a name can contain quotes, so such values go through env, which no shell parses.
    for (const { run = "" } of stepsOf(workflow)) {
      for (const [, expression = ""] of run.matchAll(/\$\{\{(.*?)\}\}/gs))
        expect(expression.trim()).toMatch(/^matrix\.\w+$/);
    }
  });
});
