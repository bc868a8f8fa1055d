/**
 * Posts a preview as a comment of its pull request, or updates the existing comment. The workflow preview-comment uses it, which runs after
 * untrusted code: the file can contain anything, so it is treated as text of limited size.
 */
import { lstat, open, readFile } from "node:fs/promises";

/** The first line of the comment. GitHub does not display it. */
const MARK = "<!-- sectorwars-preview -->";
/** The author of comments with a workflow's token. The mark alone is not enough, because every user can write it. */
const AUTHOR = "github-actions[bot]";
/** GitHub allows 65,536 characters in a comment; the text around the preview has fewer than 400. */
const ROOM = 65_000;
/** Bytes to read: enough for that many characters of two bytes. */
const READ_BYTES = 2 * ROOM;
/** Entries per page of GitHub's lists, and the maximum number of pages to read. */
const PAGE = 100;
const PAGES = 50;

/** The part of a `workflow_run` event that this script uses (docs.github.com, "Webhook events and payloads"). */
export interface PreviewRun {
  head_sha: string;
  head_branch: string;
  head_repository: { full_name: string; owner: { login: string } };
}

/** A pull request in GitHub's REST API. */
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
  /** For example https://api.github.com. */
  api: string;
  /** owner/name. */
  name: string;
  token: string;
}

/**
 * Returns the pull request of a run, or undefined if it was closed or has a newer commit. Two forks can have the same commit, so the
 * repository must match too.
 */
export const pullRequestOf = (run: PreviewRun, open: readonly PullRequest[]): PullRequest | undefined =>
  open.find(({ head }) => head.sha === run.head_sha && head.repo?.full_name === run.head_repository.full_name);

/** Returns the text of the comment. Names in it notify no user. */
export function commentBody(preview: string, commit: string): string {
  const quiet = preview.replaceAll("\0", "").replaceAll(/@(?=[\w-])/g, "@\u200b");
  const shown = quiet.length > ROOM ? `${quiet.slice(0, ROOM)}\n\n(truncated)` : quiet;
  return `${MARK}\n_The pull request's own code created this preview of ${commit.slice(0, 7)}._\n\n${shown}`;
}

/**
 * Reads the beginning of an untrusted file.
 * @throws {Error} if it is missing or not a regular file: a link could point to any file.
 */
export async function readPreview(file: string): Promise<string> {
  if (!(await lstat(file)).isFile()) throw new Error(`${file} is not a regular file. Nothing was posted.`);
  const handle = await open(file, "r");
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** Sends one request. @throws {Error} unless it succeeds; the message names the request, but not the token. */
async function ask<T>({ api, name, token }: Repository, method: string, path: string, body?: string): Promise<T> {
  const answer = await fetch(`${api}/repos/${name}${path}`, {
    method,
    headers: { accept: "application/vnd.github+json", authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body: JSON.stringify({ body }) }),
  });
  if (!answer.ok) throw new Error(`GitHub answers ${answer.status} to ${method} ${path}`);
  return (await answer.json()) as T;
}

/** Returns the existing comment, or undefined. */
async function findComment(repository: Repository, number: number): Promise<Comment | undefined> {
  for (let page = 1; page <= PAGES; page++) {
    const path = `/issues/${number}/comments?per_page=${PAGE}&page=${page}`;
    const comments = await ask<Comment[]>(repository, "GET", path);
    const ours = comments.find(({ body, user }) => user?.login === AUTHOR && body?.startsWith(MARK));
    if (ours !== undefined || comments.length < PAGE) return ours;
  }
  return undefined;
}

/** Posts the preview. Returns a line about the result. */
export async function postPreview(repository: Repository, run: PreviewRun, file: string): Promise<string> {
  const head = encodeURIComponent(`${run.head_repository.owner.login}:${run.head_branch}`);
  const found = await ask<PullRequest[]>(repository, "GET", `/pulls?state=open&per_page=${PAGE}&head=${head}`);
  const pull = pullRequestOf(run, found);
  if (pull === undefined) return `no open pull request has ${run.head_sha} as its newest commit, so nothing was posted`;
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
