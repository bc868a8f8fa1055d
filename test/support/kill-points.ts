/** Kills a program after Docker or PostgreSQL has done what it asked, and before it learns of that. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { docker } from "../../lib/docker.ts";
import { DockerProxy, type Judge } from "./docker-proxy.ts";
import type { TestStack } from "./test-stack.ts";

/** Milliseconds in which a program must reach its kill point. */
const REACHED_WITHIN_MS = 240_000;

/** A point of a program's run at which it is killed. */
export interface KillPoint {
  /** Decides which request to Docker, or which answer, is withheld. */
  judge: (stack: TestStack) => Judge;
  /** Continues to a point in PostgreSQL. Returns a function that undoes the preparations for it. */
  next?: (stack: TestStack, proxy: DockerProxy) => Promise<() => Promise<void>>;
}

type Pattern = (stack: TestStack) => RegExp;

const judging =
  (pattern: Pattern, verdict: "unsent" | "unheard"): KillPoint["judge"] =>
  (stack) => {
    const wanted = pattern(stack);
    return (request) => (wanted.test(request) ? verdict : undefined);
  };

/** Withholds the engine's answer to a matching request. */
export const withholdAnswer = (pattern: Pattern) => judging(pattern, "unheard");
/** Withholds a matching request from the engine. */
export const withholdRequest = (pattern: Pattern) => judging(pattern, "unsent");

/** Starts a program and kills all of its processes at the kill point. Returns its output. */
export async function killAt(stack: TestStack, program: string[], point: KillPoint): Promise<string> {
  const [name = "", ...args] = program;
  const proxy = await DockerProxy.begin(`/tmp/docker-${randomBytes(4).toString("hex")}.sock`, point.judge(stack));
  stack.env.DOCKER_HOST = proxy.host;
  const update = stack.beginProgram(name, args);
  stack.env.DOCKER_HOST = undefined;
  let undoPreparation = async () => {};
  try {
    const ended = update.ended.then(() => {
      throw new Error(`${program.join(" ")} ended before it reached the kill point:\n${update.text}`);
    });
    const late = sleep(REACHED_WITHIN_MS, undefined, { ref: false }).then(() => {
      throw new Error(`${program.join(" ")} did not reach the kill point:\n${update.text}`);
    });
    await Promise.race([proxy.withheld, ended, late]);
    if (point.next) {
      const reached = point.next(stack, proxy).then((undo) => {
        undoPreparation = undo;
      });
      await Promise.race([reached, ended, late]);
    }
    return update.text;
  } finally {
    await stack.killAll(update);
    await proxy.end();
    await undoPreparation();
  }
}

const inServer = (stack: TestStack, sql: string) =>
  docker(["exec", "-i", "-u", "postgres", stack.names.container, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1"], {
    input: sql,
  });

/** Milliseconds between two checks of the server's sessions. */
const CHECK_INTERVAL_MS = 20;

/**
 * Makes every commit wait, after it is written, for a standby that does not exist (PostgreSQL manual, synchronous_standby_names): the
 * commit is durable, but its client gets no answer. Releases the commits before the wanted one.
 * @param isWanted called with the application name and the statement of each waiting commit.
 * @returns a function that resets the server's setting.
 */
export async function untilCommitWaits(
  stack: TestStack,
  isWanted: (application: string, statement: string) => boolean,
): Promise<() => Promise<void>> {
  await inServer(stack, "ALTER SYSTEM SET synchronous_standby_names = 'no_such_standby'; SELECT pg_reload_conf();");
  const reset = async () => {
    await inServer(stack, "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();");
  };
  const waiting = `
    SELECT pid, application_name, replace(query, E'\\n', ' ') FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND pid <> pg_backend_pid()`;
  for (const end = Date.now() + REACHED_WITHIN_MS; Date.now() < end; await sleep(CHECK_INTERVAL_MS)) {
    const lines = (await inServer(stack, waiting)).split("\n").filter(Boolean);
    for (const line of lines) {
      const [pid, application = "", ...statement] = line.split("|");
      if (isWanted(application, statement.join("|"))) return reset;
      await inServer(stack, `SELECT pg_cancel_backend(${pid})`);
    }
  }
  await reset();
  throw new Error(`No wanted commit came within ${REACHED_WITHIN_MS / 1000} s`);
}

/** The commit of the n-th role, counted from 1, that Pulumi creates in an update that starts the server. */
export const newRole = (count: number): KillPoint => ({
  judge: withholdAnswer(() => /^POST \S+\/containers\/\w+\/start /),
  async next(stack, proxy) {
    // ALTER SYSTEM takes effect only once the server's initialisation is over.
    const isUp = () =>
      docker(["exec", stack.names.container, "pg_isready", "-q", "-h", "127.0.0.1"]).then(
        () => true,
        () => false,
      );
    while (!(await isUp())) await sleep(CHECK_INTERVAL_MS);
    let left = count;
    const reached = untilCommitWaits(stack, (application) => {
      if (!/terraform|pulumi/i.test(application)) return false;
      left -= 1;
      return left === 0;
    });
    await sleep(500);
    proxy.release();
    return reached;
  },
});

/** A commit in an update of a running server. Docker's first answer is withheld until the server makes commits wait. */
export const commitOf = (isWanted: (application: string, statement: string) => boolean): KillPoint => ({
  judge: () => {
    let isFirst = true;
    return () => {
      const verdict = isFirst ? "unheard" : undefined;
      isFirst = false;
      return verdict;
    };
  },
  async next(stack, proxy) {
    const reached = untilCommitWaits(stack, isWanted);
    await sleep(500);
    proxy.release();
    return reached;
  },
});
