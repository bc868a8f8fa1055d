/** Sets the time limits of roles. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { glance } from "../../lib/glance.ts";
import { type Address, ident, literal, MAINTENANCE_DATABASE, withConnection } from "../../lib/postgres.ts";
import { loginAddress } from "../server/server-access.ts";
import type { LimitedRolesInputs } from "./role-timeouts.ts";
import type { RoleTimeouts } from "./settings.ts";

/** PostgreSQL's parameters. */
const PARAMETERS = {
  statement: "statement_timeout",
  lock: "lock_timeout",
  idleInTransaction: "idle_in_transaction_session_timeout",
} as const;

const NO_LIMITS: RoleTimeouts = { statement: 0, lock: 0, idleInTransaction: 0 };

const addressOf = (inputs: LimitedRolesInputs): Address => loginAddress({ ...inputs, database: MAINTENANCE_DATABASE });

/** Without a unit, because the postgresql provider reads the value as a number. */
const milliseconds = (seconds: number): string => String(seconds * 1000);

/** Returns the statements that give a role its limits. A limit of 0 leaves the server's own. */
export const statementsFor = (role: string, timeouts: RoleTimeouts): string[] =>
  Object.entries(PARAMETERS).map(([key, parameter]) => {
    const seconds = timeouts[key as keyof RoleTimeouts];
    return seconds === 0
      ? `ALTER ROLE ${ident(role)} RESET ${parameter}`
      : `ALTER ROLE ${ident(role)} SET ${parameter} = ${literal(milliseconds(seconds))}`;
  });

/** Reads which roles have other limits: after a restore to a time before the limits, or a change by hand. */
async function differingRoles(client: pg.Client, inputs: LimitedRolesInputs): Promise<string[]> {
  const { rows } = await client.query<{ role: string; settings: string[] }>(
    `SELECT r.rolname AS role, coalesce(s.setconfig, '{}') AS settings FROM pg_catalog.pg_roles r
     LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0 WHERE r.rolname = ANY ($1)`,
    [inputs.roles],
  );
  const wanted = Object.entries(PARAMETERS).map(([key, parameter]): [string, number] => [
    parameter,
    inputs[key as keyof RoleTimeouts],
  ]);
  const isRight = (settings: readonly string[]) =>
    wanted.every(([parameter, seconds]) => {
      const found = settings.find((setting) => setting.startsWith(`${parameter}=`));
      return found === (seconds === 0 ? undefined : `${parameter}=${milliseconds(seconds)}`);
    });
  return rows.filter(({ settings }) => !isRight(settings)).map(({ role }) => role);
}

async function limit(inputs: LimitedRolesInputs, timeouts: RoleTimeouts, patienceMs: number): Promise<void> {
  const statements = inputs.roles.flatMap((role) => statementsFor(role, timeouts));
  await withConnection(addressOf(inputs), (client) => client.query(`BEGIN; ${statements.join("; ")}; COMMIT`), {
    patienceMs,
  });
}

async function makeLimits(inputs: LimitedRolesInputs) {
  await limit(inputs, inputs, 30_000);
  return { ...inputs, fingerprint: inputsFingerprint({ ...inputs }) };
}

export const provider: dynamic.ResourceProvider = {
  /** Connects with the inputs of the last update, because those of a preview may be unknown. */
  async diff(id, olds: LimitedRolesInputs & { fingerprint?: string }, news: LimitedRolesInputs) {
    const diff = await diffByFingerprint(id, olds, { ...news });
    if (diff.changes) return diff;
    const differing = await glance(addressOf(olds), (client) => differingRoles(client, olds));
    for (const role of differing ?? []) console.log(`roles: ${role} does not have the time limits of the settings`);
    return { ...diff, changes: differing !== undefined && differing.length > 0 };
  },

  async create(inputs: LimitedRolesInputs) {
    return { id: inputs.roles.join(","), outs: await makeLimits(inputs) };
  },

  async update(_id, _olds, inputs: LimitedRolesInputs) {
    return { outs: await makeLimits(inputs) };
  },

  /** Runs if no setting limits the roles any more. */
  async delete(_id, props: LimitedRolesInputs) {
    await limit(props, NO_LIMITS, 0);
  },
};
