import { createServer } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { guardedDrift } from "../../components/privileges/guarded.ts";
import { provider as prepared } from "../../components/privileges/prepared-provider.ts";
import {
  compare,
  compareDatabases,
  type Drift,
  type Expected,
  expectedOfDatabase,
  expectedOfStack,
  type Found,
  type FoundRole,
  together,
} from "../../components/roles/role-drift.ts";
import { provider as roleDrift } from "../../components/roles/role-drift-provider.ts";
import { inputsFingerprint } from "../../lib/dynamic.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { SUPERUSER_SETTINGS } from "../../lib/session-settings.ts";

const EXPECTED: Expected = together(expectedOfStack("postgres", "game", ROLE_NAMES), [
  expectedOfDatabase("postgres", "nexus"),
]);
const NAMES = EXPECTED.roles.map(({ name }) => name);

const role = (name: string): FoundRole => ({
  name,
  superuser: name === "postgres",
  createDatabase: name === "postgres",
  createRole: name === "postgres",
  replication: name === "postgres",
  bypassRls: name === "postgres",
  login: true,
  inherit: true,
  connectionLimit: -1,
  validUntil: null,
});

/** A server without drift, with objects that do not belong to the stack. */
const RIGHT: Found = {
  roles: [...NAMES, "postgres", "alice"].map(role),
  memberships: [
    { role: "pg_monitor", member: "sectorwars_monitor", admin: false },
    { role: "sectorwars_owner", member: "postgres", admin: true },
    { role: "pg_read_all_data", member: "alice", admin: true },
    { role: "pg_read_all_settings", member: "pg_monitor", admin: false },
  ],
  settings: [
    ...Object.entries(SUPERUSER_SETTINGS).map(([name, value]) => ({ role: "postgres", database: null, name, value })),
    { role: "sectorwars_app", database: null, name: "search_path", value: "game, public" },
    { role: "sectorwars_app", database: "game", name: "statement_timeout", value: "30s" },
    { role: "sectorwars_app", database: null, name: "constructor.x", value: "1" },
    { role: "sectorwars_owner", database: null, name: "session_replication_role", value: "origin" },
    { role: "alice", database: null, name: "role", value: "pg_read_all_data" },
    { role: null, database: "alices", name: "role", value: "alice" },
  ],
  parameterGrants: [
    { parameter: "session_replication_role", grantee: "postgres" },
    { parameter: "log_statement", grantee: "alice" },
  ],
  databases: [
    {
      name: "game",
      owner: "sectorwars_owner",
      connectionLimit: -1,
      grants: [{ grantee: "alice", privilege: "CREATE" }],
    },
    {
      name: "nexus",
      owner: "nexus_owner",
      connectionLimit: -1,
      grants: [{ grantee: "nexus_app", privilege: "CONNECT" }],
    },
    { name: "postgres", owner: "postgres", connectionLimit: 7, grants: [{ grantee: null, privilege: "CONNECT" }] },
  ],
  temporaryGrant: false,
};

/** A change by hand, and the expected finding. */
interface Change {
  change: (found: Found) => Found;
  drift: Pick<Drift, "subject" | "what" | "repair">;
}

const changedRole = (name: string, values: Partial<FoundRole>, what: string, option: string): Change => ({
  change: (found) => ({ ...found, roles: found.roles.map((r) => (r.name === name ? { ...r, ...values } : r)) }),
  drift: { subject: name, what, repair: `ALTER ROLE "${name}" ${option}` },
});

const ofRoles: Change[] = NAMES.flatMap((name) => [
  changedRole(name, { superuser: true }, "is a superuser", "NOSUPERUSER"),
  changedRole(name, { createDatabase: true }, "may create databases", "NOCREATEDB"),
  changedRole(name, { createRole: true }, "may create roles", "NOCREATEROLE"),
  changedRole(name, { replication: true }, "may replicate, and so copy the whole server", "NOREPLICATION"),
  changedRole(name, { bypassRls: true }, "bypasses row-level security", "NOBYPASSRLS"),
  changedRole(name, { login: false }, "is not permitted to log in (NOLOGIN)", "LOGIN"),
  changedRole(name, { inherit: false }, "does not inherit privileges (NOINHERIT)", "INHERIT"),
  changedRole(name, { connectionLimit: 0 }, "has a connection limit of 0", "CONNECTION LIMIT -1"),
  changedRole(
    name,
    { validUntil: "2020-01-01 00:00:00+00" },
    "has a password that expires at 2020-01-01 00:00:00+00",
    "VALID UNTIL 'infinity'",
  ),
]);

const membership = (of: string, member: string): Change => ({
  change: (found) => ({ ...found, memberships: [...found.memberships, { role: of, member, admin: false }] }),
  drift: { subject: member, what: `is a member of ${of}`, repair: `REVOKE "${of}" FROM "${member}" CASCADE` },
});

const setting = (
  subject: string,
  of: string | null,
  database: string | null,
  where: string,
  alter: string,
): Change => ({
  change: (found) => ({
    ...found,
    settings: [...found.settings, { role: of, database, name: "Role", value: "postgres" }],
  }),
  drift: { subject, what: `has the setting Role = "postgres"${where}`, repair: `${alter} RESET "Role"` },
});

const parameter = (grantee: string | null): Change => ({
  // Two grants: SET and ALTER SYSTEM.
  change: (found) => ({
    ...found,
    parameterGrants: [...found.parameterGrants, ...Array(2).fill({ parameter: "my.limit", grantee })],
  }),
  drift: {
    subject: grantee ?? "PUBLIC",
    what: "may change the server's parameter my.limit",
    repair: `REVOKE ALL ON PARAMETER "my"."limit" FROM ${grantee === null ? "PUBLIC" : `"${grantee}"`} CASCADE`,
  },
});

const CHANGES: Change[] = [
  ...ofRoles,
  membership("sectorwars_owner", "sectorwars_readonly"),
  membership("nexus_owner", "sectorwars_app"),
  membership("pg_execute_server_program", "nexus_app"),
  membership("sectorwars_readonly", "alice"),
  membership("postgres", "alice"),
  membership("pg_monitor", "nexus_readonly"),
  {
    change: (found) => ({
      ...found,
      memberships: found.memberships.filter(({ member }) => member !== "sectorwars_monitor"),
    }),
    drift: {
      subject: "sectorwars_monitor",
      what: "is not a member of pg_monitor",
      repair: 'GRANT "pg_monitor" TO "sectorwars_monitor"',
    },
  },
  setting("sectorwars_app", "sectorwars_app", null, "", 'ALTER ROLE "sectorwars_app"'),
  setting("nexus_app", "nexus_app", "game", " in the database game", 'ALTER ROLE "nexus_app" IN DATABASE "game"'),
  setting("postgres", "postgres", null, "", 'ALTER ROLE "postgres"'),
  setting("database nexus", null, "nexus", "", 'ALTER DATABASE "nexus"'),
  setting("database postgres", null, "postgres", "", 'ALTER DATABASE "postgres"'),
  setting("every role", null, null, "", "ALTER ROLE ALL"),
  {
    change: (found) => ({
      ...found,
      settings: found.settings.filter(({ name }) => name !== "log_min_error_statement"),
    }),
    drift: {
      subject: "postgres",
      what: "lacks the setting log_min_error_statement = panic, which keeps passwords out of the server's log",
      repair: `ALTER ROLE "postgres" SET "log_min_error_statement" TO 'panic'`,
    },
  },
  parameter("sectorwars_owner"),
  parameter("nexus_readonly"),
  parameter(null),
];

const shown = (drifts: readonly Pick<Drift, "subject" | "what" | "repair">[]) =>
  drifts.map(({ subject, what, repair }) => `${subject} ${what}: ${repair}`).sort();

describe("the drift of roles", () => {
  test("is empty for roles as declared, whatever else is on the server", () => {
    expect(compare(RIGHT, EXPECTED)).toEqual([]);
    expect(compareDatabases(RIGHT, EXPECTED)).toEqual([]);
  });

  test("lists each of several changes with its repair, and nothing else", () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(CHANGES), (changes) => {
        const found = changes.reduce((before, { change }) => change(before), RIGHT);
        expect(shown(compare(found, EXPECTED))).toEqual(shown(changes.map(({ drift }) => drift)));
      }),
      { numRuns: 300 },
    );
  });

  test("has for a missing role the remedy pulumi refresh and pulumi up, not SQL", () => {
    const found = {
      ...RIGHT,
      roles: RIGHT.roles.filter(({ name }) => name !== "sectorwars_monitor"),
      memberships: [],
    };
    expect(compare(found, EXPECTED)).toEqual([
      {
        subject: "sectorwars_monitor",
        what: "does not exist",
        repair: undefined,
        remedy: "pulumi refresh --yes, then pulumi up",
        sessionsOf: [],
      },
    ]);
  });

  test("includes the ADMIN OPTION on a role's own membership", () => {
    const memberships = [{ role: "pg_monitor", member: "sectorwars_monitor", admin: true }];
    expect(shown(compare({ ...RIGHT, memberships }, EXPECTED))).toEqual([
      "sectorwars_monitor may make others members of pg_monitor (ADMIN OPTION): " +
        'REVOKE ADMIN OPTION FOR "pg_monitor" FROM "sectorwars_monitor" CASCADE',
    ]);
  });

  test("requires the end of a role's sessions that would keep the privilege, but never of the superuser's", () => {
    const sessions = ({ change }: Change) => compare(change(RIGHT), EXPECTED).flatMap(({ sessionsOf }) => sessionsOf);
    expect(sessions(membership("sectorwars_owner", "sectorwars_readonly"))).toEqual(["sectorwars_readonly"]);
    expect(sessions(ofRoles[0] as Change)).toEqual(["sectorwars_owner"]);
    expect(sessions(changedRole("sectorwars_app", { createDatabase: true }, "", ""))).toEqual([]);
    expect(sessions(setting("", "postgres", null, "", ""))).toEqual([]);
    expect(sessions(setting("", null, null, "", ""))).toEqual(NAMES);
  });

  test("excludes the owner's temporary grant while migrations run, and no other grant", () => {
    const granted = (temporaryGrant: boolean, grantee: string | null) =>
      compare(
        {
          ...RIGHT,
          temporaryGrant,
          parameterGrants: [{ parameter: "session_replication_role", grantee }],
        },
        EXPECTED,
      ).map(({ subject }) => subject);
    expect(granted(true, "sectorwars_owner")).toEqual([]);
    expect(granted(false, "sectorwars_owner")).toEqual(["sectorwars_owner"]);
    expect(granted(true, "sectorwars_app")).toEqual(["sectorwars_app"]);
    expect(granted(true, null)).toEqual(["PUBLIC"]);
  });

  test("has for a former superuser a remedy that needs another superuser", () => {
    const roles = RIGHT.roles.map((found) => (found.name === "postgres" ? { ...found, superuser: false } : found));
    expect(compare({ ...RIGHT, roles }, EXPECTED)).toMatchObject([
      {
        subject: "postgres",
        what: "is not a superuser",
        repair: undefined,
        remedy: expect.stringContaining(`ALTER ROLE "postgres" SUPERUSER`),
      },
    ]);
  });

  test("quotes names in repairs and escapes control characters of values", () => {
    const name = 'a"; DROP ROLE x; --';
    const expected: Expected = { ...EXPECTED, superuserSettings: {}, roles: [{ name, memberOf: [] }], databases: [] };
    const found: Found = {
      ...RIGHT,
      roles: [{ ...role(name), superuser: true }],
      settings: [{ role: name, database: null, name: "role", value: "\u001b[2J\n" }],
    };
    expect(shown(compare(found, expected))).toEqual(
      [
        `${name} has the setting role = "\\u001b[2J\\n": ALTER ROLE "a""; DROP ROLE x; --" RESET "role"`,
        `${name} is a superuser: ALTER ROLE "a""; DROP ROLE x; --" NOSUPERUSER`,
      ].sort(),
    );
  });
});

describe("the drift of databases", () => {
  test("includes another owner, a connection limit, and privileges that only the owner may have", () => {
    const databases = [
      {
        name: "game",
        owner: "postgres",
        connectionLimit: 3,
        grants: [
          { grantee: null, privilege: "CONNECT" },
          { grantee: "sectorwars_app", privilege: "CREATE" },
          { grantee: "sectorwars_app", privilege: "TEMPORARY" },
        ],
      },
    ];
    expect(shown(compareDatabases({ ...RIGHT, databases }, EXPECTED))).toEqual(
      [
        'database game belongs to postgres instead of sectorwars_owner: ALTER DATABASE "game" OWNER TO "sectorwars_owner"',
        'database game gives CONNECT to PUBLIC: REVOKE CONNECT ON DATABASE "game" FROM PUBLIC CASCADE',
        'database game gives CREATE to sectorwars_app: REVOKE CREATE ON DATABASE "game" FROM "sectorwars_app" CASCADE',
        'database game has a connection limit of 3: ALTER DATABASE "game" CONNECTION LIMIT -1',
      ].sort(),
    );
  });

  test("lists what is new and what is gone since the last update", () => {
    expect(guardedDrift(["a", "b"], ["b", "a"])).toEqual([]);
    expect(guardedDrift(["a", "b"], ["b", "c"])).toEqual(["c", "no longer: a"]);
  });
});

describe("a preview", () => {
  const inputs = (port: number) => {
    const login = { host: "127.0.0.1", port, user: "postgres", password: "p", passwordVersion: 1 };
    return { ...login, database: "game" };
  };
  const outputs = (port: number) => ({
    ...inputs(port),
    fingerprint: inputsFingerprint(inputs(port)),
    guarded: ["database belongs to sectorwars_owner"],
  });
  const looks = [
    ["roles", roleDrift],
    ["privileges", prepared],
  ] as const;
  const unchanged = { changes: false, replaces: [], deleteBeforeReplace: false };

  test.each(looks)("reports no drift of the %s within 1 s if the server is down", async (_, { diff }) => {
    const begun = Date.now();
    expect(await diff?.("id", outputs(1), inputs(1))).toEqual(unchanged);
    expect(Date.now() - begun).toBeLessThan(1000);
  });

  test.each(looks)("reports no drift of the %s within 4 s if the server hangs", async (_, { diff }) => {
    const sockets: { destroy: () => void }[] = [];
    const server = createServer((socket) => void sockets.push(socket)).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    try {
      const begun = Date.now();
      expect(await diff?.("id", outputs(port), inputs(port))).toEqual(unchanged);
      expect(Date.now() - begun).toBeLessThan(4000);
      expect(sockets).toHaveLength(1);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });
});
