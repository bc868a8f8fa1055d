/**
 * Defines what the stack's roles must be, and compares a server's roles with it. Pure: read-drift.ts queries the server.
 *
 * Of the settings that `ALTER ROLE ... SET` and `ALTER DATABASE ... SET` make, only those count that grant power or decide which code a
 * session loads. A search_path, a timeout or read-only transactions are the user's choice. They do not affect this project's sessions,
 * which pin these settings when they connect.
 */
import { ident, literal, MAINTENANCE_DATABASE } from "../../lib/postgres.ts";
import { type RoleKey, rolesOf } from "../../lib/role-names.ts";
import { SUPERUSER_SETTINGS } from "../../lib/session-settings.ts";

/** A role as pg_roles shows it. */
export interface FoundRole {
  name: string;
  superuser: boolean;
  createDatabase: boolean;
  createRole: boolean;
  replication: boolean;
  bypassRls: boolean;
  login: boolean;
  inherit: boolean;
  /** -1: no limit. */
  connectionLimit: number;
  /** When its password expires; null for never. */
  validUntil: string | null;
}

/** One row of pg_auth_members. */
export interface FoundMembership {
  role: string;
  member: string;
  /** Whether the member may grant the membership to others. */
  admin: boolean;
}

/** One setting of pg_db_role_setting. */
export interface FoundSetting {
  /** Null for all roles. */
  role: string | null;
  /** Null for all databases. */
  database: string | null;
  name: string;
  value: string;
}

/** A grant on a configuration parameter (PostgreSQL 15, GRANT ... ON PARAMETER). */
export interface FoundParameterGrant {
  parameter: string;
  /** Null for PUBLIC. */
  grantee: string | null;
}

/** A database with its owner, its connection limit and the privileges on it. */
export interface FoundDatabase {
  name: string;
  owner: string;
  /** -1: no limit. */
  connectionLimit: number;
  /** A null grantee is PUBLIC. */
  grants: readonly { grantee: string | null; privilege: string }[];
}

/** The state of a server. */
export interface Found {
  roles: readonly FoundRole[];
  memberships: readonly FoundMembership[];
  settings: readonly FoundSetting[];
  parameterGrants: readonly FoundParameterGrant[];
  databases: readonly FoundDatabase[];
  /** Whether migrations are running with a temporary grant of `session_replication_role` to the owner. */
  temporaryGrant: boolean;
}

/** The expected state of a server. */
export interface Expected {
  /** Creates and repairs all roles. It may be a member of any role, but no role may be a member of it. */
  superuser: string;
  /** Settings that keep passwords in the superuser's statements out of the server's log; empty to check none. */
  superuserSettings: Readonly<Record<string, string>>;
  roles: readonly { name: string; memberOf: readonly string[] }[];
  /** Databases whose settings are compared. With an owner, their owner, limit and privileges are compared too. */
  databases: readonly { name: string; owner?: string }[];
}

/** One difference. */
export interface Drift {
  /** The role, `database NAME`, `PUBLIC` or `every role`. */
  subject: string;
  /** The rest of the sentence: `is a superuser`. */
  what: string;
  /** SQL for the superuser that repairs it; undefined if SQL alone cannot. */
  repair: string | undefined;
  /** What to do, if `pulumi up` alone does not repair it. */
  remedy?: string;
  /** Roles whose sessions may keep the privilege after the repair, for instance after SET ROLE. */
  sessionsOf: readonly string[];
}

/** The memberships of each role. */
const MEMBER_OF: Partial<Record<RoleKey, readonly string[]>> = { monitor: ["pg_monitor"] };

/**
 * Returns the expected state of a database's roles.
 * @param names the roles by key, for instance those of {@link rolesOf} without the shared monitor.
 */
export function expectedOf(
  superuser: string,
  database: string,
  names: Readonly<Partial<Record<RoleKey, string>>>,
): Expected {
  const roles = Object.entries(names) as [RoleKey, string][];
  return {
    superuser,
    superuserSettings: {},
    roles: roles.map(([key, name]) => ({ name, memberOf: MEMBER_OF[key] ?? [] })),
    databases: [{ name: database, ...(names.owner === undefined ? {} : { owner: names.owner }) }],
  };
}

/** Returns the expected state of the stack's own roles, including the superuser. */
export function expectedOfStack(
  superuser: string,
  database: string,
  names: Readonly<Record<RoleKey, string>>,
): Expected {
  const own = expectedOf(superuser, database, names);
  return {
    ...own,
    superuserSettings: SUPERUSER_SETTINGS,
    databases: [{ name: MAINTENANCE_DATABASE }, ...own.databases],
  };
}

/** Returns the expected state of a further database's roles. It shares the stack's monitor. */
export function expectedOfDatabase(superuser: string, database: string): Expected {
  const { monitor: _, ...own } = rolesOf(database);
  return expectedOf(superuser, database, own);
}

/** Merges several expectations of one server. */
export const together = (first: Expected, more: readonly Expected[]): Expected => ({
  ...first,
  roles: [first, ...more].flatMap(({ roles }) => roles),
  databases: [first, ...more].flatMap(({ databases }) => databases),
});

/** An attribute of a role: when it is wrong, how to describe that, and the option of ALTER ROLE that repairs it. */
interface Attribute {
  isWrong: (role: FoundRole) => boolean;
  what: (role: FoundRole) => string;
  option: string;
  /** Whether a session keeps the privilege that the attribute gave it. */
  staysInSessions?: boolean;
}

/** The attributes, which are the same for every role. The postgresql provider declares the same values, so the two never disagree. */
const ATTRIBUTES: readonly Attribute[] = [
  {
    isWrong: ({ superuser }) => superuser,
    what: () => "is a superuser",
    option: "NOSUPERUSER",
    staysInSessions: true,
  },
  { isWrong: ({ createDatabase }) => createDatabase, what: () => "may create databases", option: "NOCREATEDB" },
  { isWrong: ({ createRole }) => createRole, what: () => "may create roles", option: "NOCREATEROLE" },
  {
    isWrong: ({ replication }) => replication,
    what: () => "may replicate, and so copy the whole server",
    option: "NOREPLICATION",
    staysInSessions: true,
  },
  { isWrong: ({ bypassRls }) => bypassRls, what: () => "bypasses row-level security", option: "NOBYPASSRLS" },
  { isWrong: ({ login }) => !login, what: () => "is not permitted to log in (NOLOGIN)", option: "LOGIN" },
  { isWrong: ({ inherit }) => !inherit, what: () => "does not inherit privileges (NOINHERIT)", option: "INHERIT" },
  {
    isWrong: ({ connectionLimit }) => connectionLimit !== -1,
    what: ({ connectionLimit }) => `has a connection limit of ${connectionLimit}`,
    option: "CONNECTION LIMIT -1",
  },
  {
    isWrong: ({ validUntil }) => validUntil !== null,
    what: ({ validUntil }) => `has a password that expires at ${validUntil}`,
    option: "VALID UNTIL 'infinity'",
  },
];

/** Settings that can grant power or load code, each with the value at which it does neither. */
const POWERFUL_SETTINGS: ReadonlyMap<string, string> = new Map([
  ["role", "none"],
  ["session_authorization", "default"],
  ["session_replication_role", "origin"],
  ["lo_compat_privileges", "off"],
  ["allow_system_table_mods", "off"],
  ["ignore_checksum_failure", "off"],
  ["zero_damaged_pages", "off"],
  ["session_preload_libraries", ""],
  ["local_preload_libraries", ""],
  ["dynamic_library_path", "$libdir"],
]);

/** The parameter of the temporary grant, which the owner has while migrations run. */
const TEMPORARILY_GRANTED = "session_replication_role";

/** Quotes a parameter's name; the name of an extension's parameter has a dot between its parts. */
const parameterName = (name: string): string => name.split(".").map(ident).join(".");

/**
 * Compares the state of a server's roles and databases with the expected state.
 * @returns the differences, each once, in a fixed order.
 */
export function compare(found: Found, expected: Expected): Drift[] {
  return [
    ...compareAttributes(found, expected),
    ...compareMemberships(found, expected),
    ...compareSettings(found, expected),
    ...compareSuperuser(found, expected),
    ...compareParameters(found, expected),
  ];
}

function compareAttributes(found: Found, expected: Expected): Drift[] {
  return expected.roles.flatMap(({ name }): Drift[] => {
    const role = found.roles.find((candidate) => candidate.name === name);
    if (role === undefined) {
      const remedy = "pulumi refresh --yes, then pulumi up";
      return [{ subject: name, what: "does not exist", repair: undefined, remedy, sessionsOf: [] }];
    }
    return ATTRIBUTES.filter(({ isWrong }) => isWrong(role)).map(({ what, option, staysInSessions }) => ({
      subject: name,
      what: what(role),
      repair: `ALTER ROLE ${ident(name)} ${option}`,
      sessionsOf: staysInSessions ? [name] : [],
    }));
  });
}

/**
 * Compares memberships in both directions: only the superuser may be a member of the stack's roles, and these may be members only of the
 * expected roles. The first matters because in PostgreSQL 15 a role may grant membership in itself.
 */
function compareMemberships({ roles, memberships }: Found, expected: Expected): Drift[] {
  const own = new Map(expected.roles.map((role) => [role.name, role.memberOf]));
  const superfluous = memberships.flatMap(({ role, member, admin }): Drift[] => {
    if (member === expected.superuser) return [];
    if (!own.has(member) && !own.has(role) && role !== expected.superuser) return [];
    const from = `${ident(role)} FROM ${ident(member)} CASCADE`;
    if (!own.get(member)?.includes(role)) {
      const what = `is a member of ${role}`;
      return [{ subject: member, what, repair: `REVOKE ${from}`, sessionsOf: [member] }];
    }
    const what = `may make others members of ${role} (ADMIN OPTION)`;
    return admin ? [{ subject: member, what, repair: `REVOKE ADMIN OPTION FOR ${from}`, sessionsOf: [] }] : [];
  });
  const isThere = (name: string) => roles.some((role) => role.name === name);
  const lacking = expected.roles
    .filter(({ name }) => isThere(name))
    .flatMap(({ name, memberOf }) =>
      memberOf
        .filter((wanted) => !memberships.some(({ role, member }) => role === wanted && member === name))
        .map((wanted) => ({
          subject: name,
          what: `is not a member of ${wanted}`,
          repair: `GRANT ${ident(wanted)} TO ${ident(name)}`,
          sessionsOf: [],
        })),
    );
  return [...superfluous, ...lacking];
}

/** Returns the holder of a setting: the subject of a sentence, and the ALTER statement's beginning. */
function holderOf({ role, database }: FoundSetting): { subject: string; where: string; alter: string } {
  const where = role !== null && database !== null ? ` in the database ${database}` : "";
  const inDatabase = database === null ? "" : ` IN DATABASE ${ident(database)}`;
  if (role !== null) return { subject: role, where, alter: `ALTER ROLE ${ident(role)}${inDatabase}` };
  if (database === null) return { subject: "every role", where, alter: "ALTER ROLE ALL" };
  return { subject: `database ${database}`, where, alter: `ALTER DATABASE ${ident(database)}` };
}

function compareSettings({ settings }: Found, { superuser, roles, databases }: Expected): Drift[] {
  const names = roles.map(({ name }) => name);
  return settings
    .filter(({ role, database }) => {
      if (role !== null) return role === superuser || names.includes(role);
      return database === null || databases.some(({ name }) => name === database);
    })
    .filter(({ name, value }) => (POWERFUL_SETTINGS.get(name.toLowerCase()) ?? value) !== value)
    .map((setting) => {
      const { subject, where, alter } = holderOf(setting);
      return {
        subject,
        // A role chose the value. Quoting escapes control characters, which could manipulate a terminal.
        what: `has the setting ${setting.name} = ${JSON.stringify(setting.value)}${where}`,
        repair: `${alter} RESET ${parameterName(setting.name)}`,
        sessionsOf: setting.role === null ? names : names.filter((name) => name === setting.role),
      };
    });
}

function compareSuperuser({ roles, settings }: Found, { superuser, superuserSettings }: Expected): Drift[] {
  const lost = roles.some((role) => role.name === superuser && !role.superuser);
  const remedy = `as another superuser: ALTER ROLE ${ident(superuser)} SUPERUSER`;
  const lacking = Object.entries(superuserSettings)
    .filter(
      ([name, value]) =>
        !settings.some(
          (found) =>
            found.role === superuser && found.database === null && found.name === name && found.value === value,
        ),
    )
    .map(([name, value]) => ({
      subject: superuser,
      what: `lacks the setting ${name} = ${value}, which keeps passwords out of the server's log`,
      repair: `ALTER ROLE ${ident(superuser)} SET ${parameterName(name)} TO ${literal(value)}`,
      sessionsOf: [],
    }));
  return lost
    ? [{ subject: superuser, what: "is not a superuser", repair: undefined, remedy, sessionsOf: [] }, ...lacking]
    : lacking;
}

function compareParameters({ parameterGrants, temporaryGrant }: Found, { roles, databases }: Expected): Drift[] {
  const names = roles.map(({ name }) => name);
  const owners = databases.map(({ owner }) => owner);
  const seen = new Set<string>();
  return parameterGrants.flatMap(({ parameter, grantee }) => {
    if (grantee !== null && !names.includes(grantee)) return [];
    const isTemporary =
      temporaryGrant && parameter === TEMPORARILY_GRANTED && grantee !== null && owners.includes(grantee);
    // SET and ALTER SYSTEM are two grants, but need one repair.
    const repair = `REVOKE ALL ON PARAMETER ${parameterName(parameter)} FROM ${grantee === null ? "PUBLIC" : ident(grantee)} CASCADE`;
    if (isTemporary || seen.has(repair)) return [];
    seen.add(repair);
    const what = `may change the server's parameter ${parameter}`;
    return [{ subject: grantee ?? "PUBLIC", what, repair, sessionsOf: grantee === null ? names : [grantee] }];
  });
}

/** Privileges on a database that only its owner may have. */
const OWNERS_OWN = "CREATE";

/**
 * Compares the databases' owners, limits and privileges with the expected state. The resources that prepare the databases repair
 * differences.
 */
export function compareDatabases({ databases }: Found, expected: Expected): Drift[] {
  const names = expected.roles.map(({ name }) => name);
  return expected.databases.flatMap(({ name, owner }): Drift[] => {
    const database = databases.find((candidate) => candidate.name === name);
    if (owner === undefined || database === undefined) return [];
    const drift = (what: string, repair: string): Drift => ({
      subject: `database ${name}`,
      what,
      repair,
      sessionsOf: [],
    });
    const excess = database.grants.filter(
      ({ grantee, privilege }) => grantee === null || (names.includes(grantee) && privilege === OWNERS_OWN),
    );
    return [
      ...(database.owner === owner
        ? []
        : [
            drift(
              `belongs to ${database.owner} instead of ${owner}`,
              `ALTER DATABASE ${ident(name)} OWNER TO ${ident(owner)}`,
            ),
          ]),
      ...(database.connectionLimit === -1
        ? []
        : [
            drift(
              `has a connection limit of ${database.connectionLimit}`,
              `ALTER DATABASE ${ident(name)} CONNECTION LIMIT -1`,
            ),
          ]),
      ...excess
        .filter(({ grantee }) => grantee !== owner)
        .map(({ grantee, privilege }) =>
          drift(
            `gives ${privilege} to ${grantee ?? "PUBLIC"}`,
            `REVOKE ${privilege} ON DATABASE ${ident(name)} FROM ${grantee === null ? "PUBLIC" : ident(grantee)} CASCADE`,
          ),
        ),
    ];
  });
}
