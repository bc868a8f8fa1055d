/** What `status` and `doctor` say of the stack's roles. */

import { readFound } from "../../components/roles/read-drift.ts";
import {
  compare,
  compareDatabases,
  type Drift,
  expectedOfDatabase,
  expectedOfStack,
  together,
} from "../../components/roles/role-drift.ts";
import { type Address, MAINTENANCE_DATABASE, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";

/** Milliseconds for a connection. */
const ATTEMPT_MS = 5000;

/** SQLSTATEs of a login that the server refuses: no password, no such role or NOLOGIN, no CONNECT, too many connections. */
const REFUSED_LOGIN = new Set(["28P01", "28000", "42501", "53300"]);

/** The stack's database, as the monitor reaches it. */
export const monitorAddress = ({ urls }: StackOutputs): Address => addressOf(urls.monitor ?? "");

/** The server's own database: it can be reached while migrations block connections to the stack's. */
export const maintenanceAddress = (url: string): Address => ({ ...addressOf(url), database: MAINTENANCE_DATABASE });

/** A role that is not as it should be, with what to do about it. */
export interface RoleFinding {
  subject: string;
  what: string;
  remedy: string;
}

const findingOf = ({ subject, what, remedy }: Drift, stack: string): RoleFinding => ({
  subject,
  what,
  remedy: remedy ?? `pulumi up --stack ${stack}`,
});

/**
 * Compares the roles of the stack and of its further databases with what they must be. The monitor looks; the superuser does so
 * only where the monitor is not let in, since the monitor may be the very role that has drifted.
 * @throws {Error} when the server does not answer.
 */
export async function readRoleFindings(outputs: StackOutputs): Promise<RoleFinding[]> {
  const { stack, urls, databaseUrls = {} } = outputs;
  const superuser = addressOf(urls.superuser ?? "").user;
  const own = expectedOfStack(superuser, monitorAddress(outputs).database, ROLE_NAMES);
  const expected = together(
    own,
    Object.keys(databaseUrls).map((database) => expectedOfDatabase(superuser, database)),
  );
  const look = (url: string | undefined) =>
    withConnection(maintenanceAddress(url ?? ""), (client) => readFound(client, superuser), { attemptMs: ATTEMPT_MS });
  const found = await look(urls.monitor).catch((error: { code?: string }) => {
    if (REFUSED_LOGIN.has(error.code ?? "")) return look(urls.superuser);
    throw error;
  });
  return [...compare(found, expected), ...compareDatabases(found, expected)].map((drift) => findingOf(drift, stack));
}

/**
 * Logs in as a role, as an application would. The superuser does so in the server's own database, where no code of the
 * application's is.
 * @returns undefined where it can, or why not.
 */
export async function whyNoLogin(role: string, url: string): Promise<string | undefined> {
  const address = role === "superuser" ? maintenanceAddress(url) : addressOf(url);
  return withConnection(address, async () => undefined, { attemptMs: ATTEMPT_MS }).catch(
    (error: Error) => error.message,
  );
}
