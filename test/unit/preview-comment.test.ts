import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { commentBody } from "../../script/preview-comment.ts";

const MARK = "<!-- sectorwars-preview -->";
const SHA = "a".repeat(40);
const TOKEN = "token-that-must-not-show";

/** The part of GitHub's REST API that the command uses, and its data. */
let server: Server;
let api: string;
let pulls: unknown[];
let comments: { id: number; body: string; user: { login: string } }[];
/** Requests that change something. */
let changes: { method: string | undefined; path: string | undefined; body: string }[];
let folder: string;

async function answer(request: IncomingMessage): Promise<unknown> {
  const url = new URL(request.url ?? "", "http://localhost");
  if (request.method !== "GET") {
    const { body } = JSON.parse(await text(request));
    changes.push({ method: request.method, path: url.pathname, body });
    return {};
  }
  if (url.pathname === "/repos/us/game/pulls") return url.searchParams.get("head") === "them:branch" ? pulls : [];
  const page = Number(url.searchParams.get("page"));
  return comments.slice((page - 1) * 100, page * 100);
}

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return void response.writeHead(401).end();
    answer(request).then((found) => response.end(JSON.stringify(found)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  folder = await mkdtemp(join(tmpdir(), "sectorwars-comment-"));
});
afterAll(async () => {
  server.close();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  pulls = [
    { number: 6, head: { sha: SHA, repo: { full_name: "others/game" } } },
    { number: 7, head: { sha: SHA, repo: { full_name: "them/game" } } },
  ];
  comments = [];
  changes = [];
});

/** Runs the command as the workflow does. */
async function post(preview: string, headSha = SHA): Promise<{ code: number; text: string }> {
  const file = join(folder, "preview.md");
  await rm(file, { force: true });
  await writeFile(file, preview);
  return command(file, headSha);
}

async function command(file: string, headSha = SHA): Promise<{ code: number; text: string }> {
  const event = join(folder, "event.json");
  const head_repository = { full_name: "them/game", owner: { login: "them" } };
  await writeFile(
    event,
    JSON.stringify({ workflow_run: { head_sha: headSha, head_branch: "branch", head_repository } }),
  );
  const env = {
    ...process.env,
    GITHUB_API_URL: api,
    GITHUB_REPOSITORY: "us/game",
    GITHUB_TOKEN: TOKEN,
    GITHUB_EVENT_PATH: event,
  };
  return new Promise((resolve) => {
    execFile(process.execPath, ["script/preview-comment.ts", file], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : 1, text: stdout + stderr }),
    );
  });
}

describe("the comment with a preview", () => {
  test("goes to the pull request of the event, not to one of another repository with the same commit", async () => {
    const said = await post("2 replaced. See pull request 1.\nnumber: 1\n");
    expect(said).toEqual({ code: 0, text: "posted the comment of pull request 7\n" });
    expect(changes).toHaveLength(1);
    expect(changes[0]).toMatchObject({ method: "POST", path: "/repos/us/game/issues/7/comments" });
    expect(changes[0]?.body.startsWith(`${MARK}\n`)).toBe(true);
    expect(changes[0]?.body).toContain("2 replaced. See pull request 1.\nnumber: 1\n");
  });

  test("is updated on the second run, even when it comes after a hundred others", async () => {
    const others = Array.from({ length: 130 }, (_, id) => ({ id, body: "nice", user: { login: "visitor" } }));
    comments = [...others, { id: 900, body: `${MARK}\nold`, user: { login: "github-actions[bot]" } }];
    expect((await post("new")).text).toBe("updated the comment of pull request 7\n");
    expect(changes).toMatchObject([{ method: "PATCH", path: "/repos/us/game/issues/comments/900" }]);
  });

  test("never overwrites another user's comment that begins with the same mark", async () => {
    comments = [{ id: 1, body: `${MARK}\nmine`, user: { login: "visitor" } }];
    await post("new");
    expect(changes).toMatchObject([{ method: "POST", path: "/repos/us/game/issues/7/comments" }]);
  });

  test("is not posted for a commit that is no longer the pull request's", async () => {
    const said = await post("old news", "b".repeat(40));
    expect(said).toEqual({
      code: 0,
      text: `no open pull request has ${"b".repeat(40)} as its newest commit, so nothing was posted\n`,
    });
    expect(changes).toEqual([]);
  });

  test("is posted unchanged, even if it contains shell or workflow commands", async () => {
    const hostile = `$(touch pwned) \`id\` ${"$"}{{ secrets.GITHUB_TOKEN }}\n::add-mask::x\n::set-output name=a::b\n`;
    const said = await post(hostile);
    expect(changes[0]?.body).toContain(hostile);
    // The runner would execute a line that begins with ::.
    expect(said.text).toBe("posted the comment of pull request 7\n");
  });

  test("is truncated to the size that GitHub accepts", async () => {
    await post("x".repeat(5_000_000));
    expect(changes[0]?.body.length).toBeLessThan(65_536);
    expect(changes[0]?.body).toContain("(truncated)");
  });

  test("is not posted if its file is a link to another file of the runner", async () => {
    const secret = join(folder, "secret");
    await writeFile(secret, "of the runner");
    const file = join(folder, "preview.md");
    await rm(file, { force: true });
    await symlink(secret, file);
    const said = await command(file);
    expect(said.code).toBe(1);
    expect(said.text).toContain("is not a regular file. Nothing was posted.");
    expect(said.text).not.toContain(TOKEN);
    expect(changes).toEqual([]);
  });

  test("mentions no user, so GitHub notifies none", () => {
    expect(commentBody("thanks to @octocat and @pulumi/docker", SHA)).not.toMatch(/@\w/);
  });
});
