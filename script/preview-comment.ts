/**
 * Posts a preview as a comment of its pull request, or updates the comment that is there. Used by the workflow preview-comment, which
 * runs after untrusted code: the file can hold anything, so it is text of a limited size and nothing else.
 */
import { lstat, open, readFile } from "node:fs/promises";

/** The first line of our comment. GitHub does not show it. */
const MARK = "<!-- sectorwars-preview -->";
/** Who writes with a workflow's own token. Anybody can write a comment that begins with the mark. */
const AUTHOR = "github-actions[bot]";
/** GitHub takes comments of up to 65,536 characters; what we add ourselves needs less than 400. */
const ROOM = 65_000;
/** Bytes that are read: enough for as many characters of two bytes. */
const READ_BYTES = 2 * ROOM;
/** Entries of a page of GitHub's lists, and pages that are read at most. */
const PAGE = 100;
const PAGES = 50;

/** The part of a `workflow_run` event that is used (docs.github.com, "Webhook events and payloads"). */
export interface PreviewRun {
  head_sha: string;
  head_branch: string;
  head_repository: { full_name: string; owner: { login: string } };
}

/** A pull request, as GitHub's REST API has it. */
export interface PullRequest {
  number: number;
  head: { sha: string; repo: { full_name: string } | null };
}

interface Comment {
  id: number;
  body?: string;
  user: { login: string } | null;
}

/** GitHub's REST API, for one repository. */
interface Repository {
  /** For instance https://api.github.com. */
  api: string;
  /** owner/name. */
  name: string;
  token: string;
}

/**
 * The pull request that a run belongs to, or undefined where it was closed or has a newer commit by now. Two forks can have the same
 * commit, so the repository counts as well.
 */
export const pullRequestOf = (run: PreviewRun, open: readonly PullRequest[]): PullRequest | undefined =>
  open.find(({ head }) => head.sha === run.head_sha && head.repo?.full_name === run.head_repository.full_name);

/** The comment's text. Nobody is notified by a name in it. */
export function commentBody(preview: string, commit: string): string {
  const quiet = preview.replaceAll("\0", "").replaceAll(/@(?=[\w-])/g, "@\u200b");
  const shown = quiet.length > ROOM ? `${quiet.slice(0, ROOM)}\n\n(cut here)` : quiet;
  return `${MARK}\n_This preview of ${commit.slice(0, 7)} was made by the pull request's own code._\n\n${shown}`;
}

/**
 * Reads the beginning of an untrusted file.
 * @throws {Error} when it is missing or no plain file: a link could lead anywhere.
 */
export async function readPreview(file: string): Promise<string> {
  if (!(await lstat(file)).isFile()) throw new Error(`${file} is not a plain file. Nothing was posted.`);
  const handle = await open(file, "r");
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** Sends one request. @throws {Error} for any answer but success; it names the request, never the token. */
async function ask<T>({ api, name, token }: Repository, method: string, path: string, body?: string): Promise<T> {
  const answer = await fetch(`${api}/repos/${name}${path}`, {
    method,
    headers: { accept: "application/vnd.github+json", authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body: JSON.stringify({ body }) }),
  });
  if (!answer.ok) throw new Error(`GitHub answers ${answer.status} to ${method} ${path}`);
  return (await answer.json()) as T;
}

/** Our comment, or undefined. */
async function findComment(repository: Repository, number: number): Promise<Comment | undefined> {
  for (let page = 1; page <= PAGES; page++) {
    const path = `/issues/${number}/comments?per_page=${PAGE}&page=${page}`;
    const comments = await ask<Comment[]>(repository, "GET", path);
    const ours = comments.find(({ body, user }) => user?.login === AUTHOR && body?.startsWith(MARK));
    if (ours !== undefined || comments.length < PAGE) return ours;
  }
  return undefined;
}

/** Posts the preview; returns a line that says what was done. */
export async function postPreview(repository: Repository, run: PreviewRun, file: string): Promise<string> {
  const head = encodeURIComponent(`${run.head_repository.owner.login}:${run.head_branch}`);
  const found = await ask<PullRequest[]>(repository, "GET", `/pulls?state=open&per_page=${PAGE}&head=${head}`);
  const pull = pullRequestOf(run, found);
  if (pull === undefined) return `no open pull request is at ${run.head_sha} any more, so nothing was posted`;
  const body = commentBody(await readPreview(file), run.head_sha);
  const known = await findComment(repository, pull.number);
  if (known === undefined) await ask(repository, "POST", `/issues/${pull.number}/comments`, body);
  else await ask(repository, "PATCH", `/issues/comments/${known.id}`, body);
  return `${known === undefined ? "posted" : "updated"} the comment of pull request ${pull.number}`;
}

if (import.meta.main) {
  const { GITHUB_API_URL: api = "", GITHUB_REPOSITORY: name = "", GITHUB_TOKEN: token = "" } = process.env;
  const event = JSON.parse(await readFile(process.env.GITHUB_EVENT_PATH ?? "", "utf8"));
  console.log(await postPreview({ api, name, token }, event.workflow_run, process.argv[2] ?? ""));
}
