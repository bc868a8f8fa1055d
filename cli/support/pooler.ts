/** Examines the stack's pooler for `status` and `doctor`. */
import { loginDrift, readLogin } from "../../components/pooler/login.ts";
import { checkPooler, poolerState, readPooler } from "../../components/pooler/pooler-container.ts";
import type { PoolerReport } from "../../components/pooler/report.ts";
import { namesFor } from "../../lib/naming.ts";
import { withConnection } from "../../lib/postgres.ts";
import type { StackOutputs } from "../../lib/stack.ts";
import { maintenanceAddress } from "./roles.ts";

/** A problem, with its remedy. */
interface Problem {
  seen: string;
  remedy: string;
}

/** The pooler: its report, or at least the reason why there is none. */
export type ExaminedPooler = { container: string } & (
  | { report: PoolerReport; problem?: Problem }
  | { report?: undefined; problem: Problem }
);

const ATTEMPT_MS = 5000;

/** Returns the first difference of the pooler's login in the server; undefined if there is none, or the server does not answer. */
async function driftOf({ urls }: StackOutputs): Promise<string | undefined> {
  const read = withConnection(maintenanceAddress(urls.monitor ?? ""), readLogin, { attemptMs: ATTEMPT_MS });
  const found = await read.catch(() => undefined);
  return found && loginDrift(found)[0];
}

/** Examines the pooler. Returns undefined if the stack has none. */
export async function examinePooler(outputs: StackOutputs): Promise<ExaminedPooler | undefined> {
  const { stack, pooler } = outputs;
  const place = { stack };
  const state = await poolerState(place).catch(() => undefined);
  if (pooler === undefined && state === undefined) return undefined;
  const container = namesFor(stack).pooler;
  if (state === undefined) {
    const remedy = `pulumi refresh --yes --target '**Container::pooler-container' --stack ${stack}, then pulumi up --stack ${stack}`;
    return { container, problem: { seen: `the container ${container} does not exist`, remedy } };
  }
  if (state.status !== "running") {
    return {
      container,
      problem: { seen: `the container ${container} is ${state.status}`, remedy: `docker start ${container}` },
    };
  }
  try {
    const report = await readPooler(place);
    const remedy = `pulumi up --stack ${stack}`;
    const drift = await driftOf(outputs);
    if (drift !== undefined) return { container, report, problem: { seen: drift, remedy } };
    // While queries are held, a login would wait until it times out.
    if (report.paused.length > 0) return { container, report };
    const failure = await checkPooler(place).catch((error: Error) => error);
    if (failure === undefined) return { container, report };
    return {
      container,
      report,
      problem: { seen: `the pooler cannot log in to the server: ${failure.message}`, remedy },
    };
  } catch (error) {
    return { container, problem: { seen: (error as Error).message, remedy: `docker logs ${container}` } };
  }
}
