/** Moments at which a program is killed: Docker or PostgreSQL has done what it was asked, and the program never hears of it. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { docker } from "../../lib/docker.ts";
import { DockerProxy, type Judge } from "./docker-proxy.ts";
import type { TestStack } from "./test-stack.ts";

/** Milliseconds in which a moment must come. */
const COMES_WITHIN_MS = 240_000;

/** A moment: where it is waited for, with what else it takes. */
export interface Moment {
  /** What Docker is asked, and what of it is withheld. */
  judge: (stack: TestStack) => Judge;
  /** Goes on to a moment in PostgreSQL; what it returns takes back what was done for it. */
  next?: (stack: TestStack, proxy: DockerProxy) => Promise<() => Promise<void>>;
}

type Pattern = (stack: TestStack) => RegExp;

const judging =
  (pattern: Pattern, verdict: "unsent" | "unheard"): Moment["judge"] =>
  (stack) => {
    const wanted = pattern(stack);
    return (request) => (wanted.test(request) ? verdict : undefined);
  };

/** Withholds the engine's answer to a request that matches. */
export const unheard = (pattern: Pattern) => judging(pattern, "unheard");
/** Withholds a request that matches from the engine. */
export const withheldFrom = (pattern: Pattern) => judging(pattern, "unsent");

/** Begins a program, and kills it with all of its processes at the moment. Returns what it said. */
export async function killAt(stack: TestStack, program: string[], moment: Moment): Promise<string> {
  const [name = "", ...args] = program;
  const proxy = await DockerProxy.begin(`/tmp/docker-${randomBytes(4).toString("hex")}.sock`, moment.judge(stack));
  stack.env.DOCKER_HOST = proxy.host;
  const update = stack.beginProgram(name, args);
  stack.env.DOCKER_HOST = undefined;
  let takeBack = async () => {};
  try {
    const ended = update.ended.then(() => {
      throw new Error(`${program.join(" ")} ended before the moment came:\n${update.text}`);
    });
    const late = sleep(COMES_WITHIN_MS, undefined, { ref: false }).then(() => {
      throw new Error(`the moment did not come:\n${update.text}`);
    });
    await Promise.race([proxy.withheld, ended, late]);
    if (moment.next) {
      const reached = moment.next(stack, proxy).then((undo) => {
        takeBack = undo;
      });
      await Promise.race([reached, ended, late]);
    }
    return update.text;
  } finally {
    await stack.killAll(update);
    await proxy.end();
    await takeBack();
  }
}

const inServer = (stack: TestStack, sql: string) =>
  docker(["exec", "-i", "-u", "postgres", stack.names.container, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1"], {
    input: sql,
  });

/** Milliseconds between two looks at the server's sessions. */
const LOOK_MS = 20;

/**
 * Has every commit wait for a standby that there is not, once it is written (PostgreSQL manual, synchronous_standby_names): it counts,
 * and whoever made it never hears so. Commits before the one that is meant are told to go on.
 * @param isMeant told of each that waits, by its application and its statement.
 */
export async function untilCommitWaits(
  stack: TestStack,
  isMeant: (application: string, statement: string) => boolean,
): Promise<() => Promise<void>> {
  await inServer(stack, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf();");
  const takeBack = async () => {
    await inServer(stack, "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();");
  };
  const waiting = `
    SELECT pid, application_name, replace(query, E'\\n', ' ') FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND pid <> pg_backend_pid()`;
  for (const end = Date.now() + COMES_WITHIN_MS; Date.now() < end; await sleep(LOOK_MS)) {
    const lines = (await inServer(stack, waiting)).split("\n").filter(Boolean);
    for (const line of lines) {
      const [pid, application = "", ...statement] = line.split("|");
      if (isMeant(application, statement.join("|"))) return takeBack;
      await inServer(stack, `SELECT pg_cancel_backend(${pid})`);
    }
  }
  await takeBack();
  throw new Error("no such commit came");
}

/** The n-th role, counted from 1, that Pulumi makes in an update that starts the server. */
export const newRole = (count: number): Moment => ({
  judge: unheard(() => /^POST \S+\/containers\/\w+\/start /),
  async next(stack, proxy) {
    // Before its initialisation is over, the server would not listen to what is set.
    const isUp = () =>
      docker(["exec", stack.names.container, "pg_isready", "-q", "-h", "127.0.0.1"]).then(
        () => true,
        () => false,
      );
    while (!(await isUp())) await sleep(LOOK_MS);
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

/** A commit in an update that finds the server running; withheld from Docker is the update's first question, until all is set. */
export const commitOf = (isMeant: (application: string, statement: string) => boolean): Moment => ({
  judge: () => {
    let isFirst = true;
    return () => {
      const verdict = isFirst ? "unheard" : undefined;
      isFirst = false;
      return verdict;
    };
  },
  async next(stack, proxy) {
    const reached = untilCommitWaits(stack, isMeant);
    await sleep(500);
    proxy.release();
    return reached;
  },
});
