/** Manual changes of roles and databases: status names them with the remedy, a preview shows them, and an update repairs them. */
import fc from "fast-check";
import type pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { repairableDrift, repairRoles } from "../../components/roles/read-drift.ts";
import { expectedOfDatabase, expectedOfStack, together } from "../../components/roles/role-drift.ts";
import { blockConnections, unblockConnections } from "../../lib/connection-lock.ts";
import { TEMPORARY_GRANT_KEY } from "../../lib/locks.ts";
import { type Address, connect, ident, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES, rolesOf } from "../../lib/role-names.ts";
import { addressOf } from "../../lib/stack.ts";
import { type StackUrls, TestStack } from "../support/test-stack.ts";

interface Status {
  healthy: boolean;
  roles: Record<string, string>;
  drift: { subject: string; what: string; remedy: string }[];
  version?: string;
  size?: number;
}

let stack: TestStack;
let database: string;
/** The database postgres, as the superuser. */
let maintenance: Address;

const asSuperuser = (sql: string) => withConnection(maintenance, (client) => client.query(sql));
const command = (name: string, ...args: string[]) => stack.db(name, ...args);
const status = async (): Promise<Status> => JSON.parse((await command("status", "--json")).stdout);
const drift = async () => (await status()).drift.map(({ subject, what }) => `${subject} ${what}`);

/** Lists the resources that a preview would update. */
async function previewed(): Promise<string[]> {
  const { stdout } = await stack.succeed("preview", "--json", "--stack", stack.name);
  const { steps } = JSON.parse(stdout) as { steps: { op: string; urn: string }[] };
  return steps
    .filter(({ op }) => op !== "same")
    .map(({ op, urn }) => `${op} ${urn.split("::").at(-1)}`)
    .sort();
}

beforeAll(async () => {
  stack = await TestStack.make({ bootstrap: "empty", memory: "512" });
  await stack.succeed("config", "set", "--path", "databases[0]", "nexus", "--stack", stack.name);
  await stack.up();
  const { urls } = await stack.outputs();
  const address = addressOf(urls.superuser);
  database = address.database;
  maintenance = { ...address, database: "postgres" };
});
afterAll(() => stack.end());

test("an unchanged stack has no drift: status and doctor report none, and an update changes nothing", async () => {
  const { healthy, roles, drift, version, size } = await status();
  expect({ healthy, drift }).toEqual({ healthy: true, drift: [] });
  expect(Object.values(roles)).toEqual(Array(5).fill("ok"));
  expect(version).toMatch(/^15\./);
  expect(size).toBeGreaterThan(1_000_000);
  expect((await command("doctor")).text).toContain("No problems found.");
  await stack.up("--expect-no-changes");
});

/** The drift that {@link changeByHand} makes, as status must name it. */
const CHANGED = () => [
  "sectorwars_app is a superuser",
  "sectorwars_readonly is a member of sectorwars_owner",
  "sectorwars_readonly may create roles",
  "sectorwars_monitor is not a member of pg_monitor",
  'sectorwars_readonly has the setting session_replication_role = "replica"',
  "sectorwars_owner may change the server's parameter session_replication_role",
  "nexus_app bypasses row-level security",
  `database ${database} belongs to postgres instead of sectorwars_owner`,
  `database ${database} has a connection limit of 5`,
  "database nexus gives CREATE to nexus_app",
];

async function changeByHand(): Promise<void> {
  await asSuperuser(`
    ALTER ROLE sectorwars_app SUPERUSER;
    GRANT sectorwars_owner TO sectorwars_readonly;
    ALTER ROLE sectorwars_readonly CREATEROLE;
    REVOKE pg_monitor FROM sectorwars_monitor;
    ALTER ROLE sectorwars_readonly SET session_replication_role = replica;
    GRANT SET ON PARAMETER session_replication_role TO sectorwars_owner;
    ALTER ROLE nexus_app BYPASSRLS;
    ALTER DATABASE ${ident(database)} OWNER TO postgres;
    ALTER DATABASE ${ident(database)} CONNECTION LIMIT 5;
    GRANT CREATE ON DATABASE nexus TO nexus_app;
    GRANT CONNECT ON DATABASE template1 TO PUBLIC`);
  await stack.as("superuser", (client) => client.query("GRANT CREATE ON SCHEMA public TO sectorwars_readonly"));
}

/** Opens a session of the app role that became the superuser while the role was one. */
async function becomeSuperuser(): Promise<pg.Client> {
  const { urls } = await stack.outputs();
  const client = await connect(addressOf(urls.app));
  await client.query("SET SESSION AUTHORIZATION postgres");
  return client;
}

test("manual changes of roles and databases are reported with the remedy, and pulumi up repairs them", async () => {
  await changeByHand();
  const taken = await becomeSuperuser();

  const said = await command("status", "--json");
  const found: Status = JSON.parse(said.stdout);
  expect(said.code).toBe(1);
  expect(found.healthy).toBe(false);
  expect(found.drift.map(({ subject, what }) => `${subject} ${what}`).sort()).toEqual(CHANGED().sort());
  expect(new Set(found.drift.map(({ remedy }) => remedy))).toEqual(new Set([`pulumi up --stack ${stack.name}`]));
  expect(found.roles).toMatchObject({ app: "is a superuser", superuser: "ok" });
  const doctor = await command("doctor");
  expect(doctor.code).toBe(1);
  for (const line of CHANGED()) expect(doctor.text).toContain(`Roles: ${line}`);
  expect(doctor.text).toContain(`To correct it: pulumi up --stack ${stack.name}`);
  expect(doctor.text).not.toContain("No problems found");

  expect(await previewed()).toEqual(["update databases-nexus", "update privileges-grants", "update roles-drift"]);
  const { text } = await stack.up();
  expect(text).toContain("roles: sectorwars_app is a superuser: repaired");
  await expect(taken.query("SELECT 1")).rejects.toThrow();

  expect(await drift()).toEqual([]);
  expect((await command("doctor")).text).toContain("No problems found.");
  await stack.as("superuser", async (client) => {
    const { rows } = await client.query(`
      SELECT has_schema_privilege('sectorwars_readonly', 'public', 'CREATE') AS readonly_creates,
        has_database_privilege('nexus_app', 'nexus', 'CREATE') AS app_creates,
        has_database_privilege('nexus_app', 'template1', 'CONNECT') AS app_connects,
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS limit`);
    expect(rows).toEqual([{ readonly_creates: false, app_creates: false, app_connects: false, limit: -1 }]);
  });
  for (const role of ["owner", "app", "readonly", "monitor"] as (keyof StackUrls)[]) {
    await stack.as(role, (client) => client.query("SELECT 1"));
  }
  await stack.up("--expect-no-changes");
});

test("a monitor role with NOLOGIN is reported too, and pulumi up repairs it", async () => {
  await asSuperuser("ALTER ROLE sectorwars_monitor NOLOGIN");
  const { healthy, drift: found, roles } = await status();
  expect(healthy).toBe(false);
  expect(found).toMatchObject([{ subject: "sectorwars_monitor", what: "is not permitted to log in (NOLOGIN)" }]);
  expect(roles.monitor).toMatch(/cannot log in.*not permitted to log in/);
  expect((await command("doctor")).text).toContain("sectorwars_monitor is not permitted to log in (NOLOGIN)");
  await stack.up();
  expect((await command("status")).code).toBe(0);
});

test("pulumi up also repairs drift that a pulumi refresh has written to the state", async () => {
  await asSuperuser("ALTER ROLE sectorwars_app CREATEDB; GRANT sectorwars_owner TO sectorwars_app");
  await stack.succeed("refresh", "--yes", "--stack", stack.name);
  await stack.up();
  expect(await drift()).toEqual([]);
  await stack.up("--expect-no-changes");
});

test("the owner's temporary grant is no drift while the superuser holds its lock, but is while another role does", async () => {
  const grant = "sectorwars_owner may change the server's parameter session_replication_role";
  const lock = `SELECT pg_advisory_lock(${TEMPORARY_GRANT_KEY})`;
  await asSuperuser("GRANT SET ON PARAMETER session_replication_role TO sectorwars_owner");
  await withConnection(maintenance, async (client) => {
    await client.query(lock);
    expect(await drift()).toEqual([]);
    expect(await previewed()).toEqual([]);
  });
  await stack.as("owner", async (client) => {
    await client.query(lock);
    expect(await drift()).toEqual([grant]);
  });
  await asSuperuser("REVOKE SET ON PARAMETER session_replication_role FROM sectorwars_owner");
});

test("the connection lock of a killed migration is no drift: the next migration removes it after it restores the data", async () => {
  const open = await withConnection(maintenance, (client) => blockConnections(client, database));
  expect(await previewed()).toEqual([]);
  // Without its row in connection_locks, it is drift like any other revoked privilege.
  await asSuperuser("DELETE FROM sectorwars_stack.connection_locks");
  expect(await previewed()).toEqual(["update privileges-grants"]);
  await stack.up();
  await stack.as("app", (client) => client.query("SELECT 1"));
  await withConnection(maintenance, (client) => unblockConnections(client, open));
  await stack.up("--expect-no-changes");
});

/** Changes that a person could make to the roles, and how status describes each. */
const changes = (): (readonly [sql: string, description: string])[] => {
  const roles = [...Object.values(ROLE_NAMES), ...Object.values(rolesOf("nexus")).slice(0, 3)];
  const attributes = [
    ["SUPERUSER", "is a superuser"],
    ["CREATEDB", "may create databases"],
    ["CREATEROLE", "may create roles"],
    ["REPLICATION", "may replicate, and so copy the whole server"],
    ["BYPASSRLS", "bypasses row-level security"],
    ["NOLOGIN", "is not permitted to log in (NOLOGIN)"],
    ["NOINHERIT", "does not inherit privileges (NOINHERIT)"],
    ["CONNECTION LIMIT 3", "has a connection limit of 3"],
    ["VALID UNTIL '2020-01-01 00:00+00'", "has a password that expires at 2020-01-01 00:00:00+00"],
  ] as const;
  return [
    ...roles.flatMap((role) =>
      attributes.map(([option, words]) => [`ALTER ROLE ${role} ${option}`, `${role} ${words}`] as const),
    ),
    ["GRANT sectorwars_owner TO sectorwars_readonly", "sectorwars_readonly is a member of sectorwars_owner"],
    ["GRANT postgres TO nexus_app WITH ADMIN OPTION", "nexus_app is a member of postgres"],
    ["GRANT pg_read_all_data TO sectorwars_app", "sectorwars_app is a member of pg_read_all_data"],
    ["GRANT sectorwars_app TO stranger", "stranger is a member of sectorwars_app"],
    ["REVOKE pg_monitor FROM sectorwars_monitor", "sectorwars_monitor is not a member of pg_monitor"],
    [
      "ALTER ROLE sectorwars_app SET role = sectorwars_owner",
      'sectorwars_app has the setting role = "sectorwars_owner"',
    ],
    [
      "ALTER ROLE nexus_owner IN DATABASE nexus SET session_replication_role = replica",
      'nexus_owner has the setting session_replication_role = "replica" in the database nexus',
    ],
    [
      "ALTER DATABASE nexus SET lo_compat_privileges = on",
      'database nexus has the setting lo_compat_privileges = "on"',
    ],
    ["ALTER ROLE ALL SET zero_damaged_pages = on", 'every role has the setting zero_damaged_pages = "on"'],
    [
      "ALTER ROLE postgres RESET log_min_duration_statement",
      "postgres lacks the setting log_min_duration_statement = -1, which keeps passwords out of the server's log",
    ],
    [
      "GRANT SET, ALTER SYSTEM ON PARAMETER log_statement TO nexus_readonly",
      "nexus_readonly may change the server's parameter log_statement",
    ],
    [
      "GRANT SET ON PARAMETER auto_explain.log_level TO PUBLIC",
      "PUBLIC may change the server's parameter auto_explain.log_level",
    ],
  ];
};

test("any combination of changes is found, and its repair leaves no drift", async () => {
  const expected = together(expectedOfStack("postgres", database, ROLE_NAMES), [
    expectedOfDatabase("postgres", "nexus"),
  ]);
  const find = () => withConnection(maintenance, (client) => repairableDrift(client, expected));
  await asSuperuser("CREATE ROLE stranger");
  await fc.assert(
    fc.asyncProperty(fc.subarray(changes(), { minLength: 1 }), async (chosen) => {
      await asSuperuser(chosen.map(([sql]) => sql).join("; "));
      const words = chosen.map(([, words]) => words).sort();
      expect((await find()).map(({ subject, what }) => `${subject} ${what}`).sort()).toEqual(words);
      expect(await repairRoles(maintenance, expected)).toHaveLength(chosen.length);
      expect(await find()).toEqual([]);
    }),
    { numRuns: 25 },
  );
  await asSuperuser("DROP ROLE stranger");
  await stack.up("--expect-no-changes");
});
