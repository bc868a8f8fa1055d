/** Settings of the roles. */
import { rule, text, type ValuesOf } from "../../lib/setting.ts";

/** Limits of the app and readonly roles, in seconds; 0 for none. */
export interface RoleTimeouts {
  /** How long one statement may run. */
  readonly statement: number;
  /** How long a statement may wait for a lock. */
  readonly lock: number;
  /** How long a transaction may stay open without a statement. */
  readonly idleInTransaction: number;
}

const SECONDS = rule<string>(
  (value) => value === "auto" || (/^\d{1,6}$/.test(value) && Number(value) <= 86_400),
  "give seconds, 0 to 86400, where 0 means no limit, or auto",
);

export const ROLES_SETTINGS = {
  statementTimeout: text(SECONDS),
  lockTimeout: text(SECONDS),
  idleInTransactionTimeout: text(SECONDS),
};

/** Returns the limits. Pure. */
export const timeoutsOf = (values: ValuesOf<typeof ROLES_SETTINGS>): RoleTimeouts =>
  Object.freeze({
    statement: Number(values.statementTimeout),
    lock: Number(values.lockTimeout),
    idleInTransaction: Number(values.idleInTransactionTimeout),
  });
