/** Checks the stack's roles for `status` and `doctor`. */

import { readFound } from "../../components/roles/read-drift.ts";
import {
  compare,
  compareDatabases,
  type Drift,
  expectedOfDatabase,
  expectedOfStack,
  together,
} from "../../components/roles/role-drift.ts";
import { type Address, maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";

/** Time limit for a connection, in milliseconds. */
const ATTEMPT_MS = 5000;

/** SQLSTATEs of a rejected login: wrong password, no such role or NOLOGIN, no CONNECT, too many connections. */
const REFUSED_LOGIN = new Set(["28P01", "28000", "42501", "53300"]);

/** Returns the stack's database with the monitor's login. */
export const monitorAddress = ({ urls }: StackOutputs): Address => addressOf(urls.monitor ?? "");

/** Returns the server's own database, which accepts connections during a connection lock of the stack's database. */
export const maintenanceAddress = (url: string): Address => maintenance(addressOf(url));

/** A role or database that differs from what is declared, with the remedy. */
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
 * Compares the roles of the stack and of its further databases with what is declared. Logs in as the monitor role, or as the superuser
 * if the server rejects the monitor, which may itself have drifted.
 * @throws {Error} if the server does not answer.
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
 * Logs in as a role, as an application would. Logs in as the superuser only to the server's own database, which contains no code of the
 * application.
 * @returns undefined if the login succeeds, else the error.
 */
export async function whyNoLogin(role: string, url: string): Promise<string | undefined> {
  const address = role === "superuser" ? maintenanceAddress(url) : addressOf(url);
  return withConnection(address, async () => undefined, { attemptMs: ATTEMPT_MS }).catch(
    (error: Error) => error.message,
  );
}
