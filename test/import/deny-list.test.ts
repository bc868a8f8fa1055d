/** Denied tables are unreadable for readonly, and no role gains a superuser's privileges; each role tries it on a real server. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Lab, type Server } from "../support/lab.ts";
import { PreparedDatabase, prepareServer, type Who } from "../support/prepared.ts";
import { withConnection } from "../support/session.ts";

const DENIED = "42501";
let lab: Lab;
let server: Server;
let passwords: Awaited<ReturnType<typeof prepareServer>>;
let game: PreparedDatabase;
let made = 0;
beforeAll(async () => {
  lab = await Lab.open();
  server = await lab.startTarget();
  passwords = await prepareServer(server);
});
afterAll(() => lab?.close());
beforeEach(async () => {
  made += 1;
  game = await PreparedDatabase.create(server, `game_${made}`, passwords);
});

const caseFile = (name: string) => readFile(`test/cases/security/${name}.sql`, "utf8");
const owner = (...statements: string[]) => game.as("owner", ...statements);
const app = (...statements: string[]) => game.as("app", ...statements);
const superuser = (...statements: string[]) => game.as("superuser", ...statements);
const readonly = (relation: string, what = "*") => game.as("readonly", `SELECT ${what} FROM ${relation}`);
const denied = (attempt: Promise<unknown>, what: string) =>
  expect(attempt, what).rejects.toMatchObject({ code: DENIED });
const mayRead = async (...relations: string[]) => {
  for (const relation of relations) await expect(readonly(relation), relation).resolves.toBeDefined();
};
const mustNotRead = async (...relations: string[]) => {
  for (const relation of relations) await denied(readonly(relation), relation);
};
/** Runs the work with a group of which readonly is a member, and drops the group afterwards. */
async function inGroup(work: () => Promise<void>): Promise<void> {
  await superuser("CREATE ROLE readers; GRANT readers TO sectorwars_readonly");
  try {
    await work();
  } finally {
    await superuser("DROP OWNED BY readers; DROP ROLE readers");
  }
}

describe("the app role does not become a superuser", () => {
  const isSuperuser = async () =>
    (await superuser("SELECT rolsuper FROM pg_roles WHERE rolname = 'sectorwars_app'"))[0]?.rolsuper;

  test("by a temporary view with the name of a catalog", async () => {
    const said = await game.psql("app", await caseFile("01-app-to-superuser-temp-pg_class"));
    expect(said).toMatch(/super_after\s*\n[-+\s]+\n\s*sectorwars_app \| f/);
    expect(said).toContain("must be superuser or have privileges of the pg_execute_server_program role");
    expect(said).not.toContain("uid=");
    expect(said).not.toContain("evil runs as postgres");
    expect(await isSuperuser()).toBe(false);
  });

  test("by temporary relations, types and domains with names that the trigger uses", async () => {
    const trap = "pg_temp.trap()";
    const views = [
      `pg_inherits AS SELECT ${trap} AS inhrelid, ${trap} AS inhparent`,
      `pg_roles AS SELECT ${trap} AS oid, 'sectorwars_readonly'::name AS rolname, false AS rolsuper`,
      `pg_namespace AS SELECT ${trap} AS oid, 'public'::name AS nspname`,
      `pg_auth_members AS SELECT ${trap} AS roleid, ${trap} AS member`,
      `pg_attribute AS SELECT ${trap} AS attrelid, false AS attisdropped, NULL::aclitem[] AS attacl`,
      `pg_depend AS SELECT ${trap} AS classid, ${trap} AS objid, 'e'::"char" AS deptype`,
      `pg_class AS SELECT ${trap} AS oid, 'r'::"char" AS relkind, 'mfa_x'::name AS relname`,
    ];
    await app(
      `CREATE FUNCTION ${trap} RETURNS oid LANGUAGE plpgsql AS $$
       BEGIN
         IF current_user <> 'sectorwars_app' THEN EXECUTE 'ALTER ROLE sectorwars_app SUPERUSER'; END IF;
         RETURN 0;
       END $$`,
      `CREATE DOMAIN pg_temp.regclass AS text CHECK (${trap} IS NULL)`,
      ...views.map((view) => `CREATE TEMP VIEW ${view}`),
      "CREATE TEMP TABLE mfa_codes (code text)",
      "SET client_min_messages = warning; SET standard_conforming_strings = off; SET transform_null_equals = on",
      "CREATE TEMP TABLE mfa_more (code text)",
    );
    expect(await isSuperuser()).toBe(false);
  });
});

describe("readonly", () => {
  test("reads no row of a denied table in the adversary's script", async () => {
    await owner("CREATE TABLE admin_credentials (code text)");
    expect(await game.psql("owner", await caseFile("07-deny-list-holes"))).not.toContain("ERROR");
    await owner("GRANT USAGE ON SCHEMA denied TO PUBLIC");
    await mustNotRead("denied.mfa_codes", "mfa_parted", "parted_1", `"MFA_Upper"`, "mfa_src", "admin_credentials");
  });

  test.each([
    [
      "a schema that is created with its tables",
      "CREATE SCHEMA side CREATE TABLE mfa_codes (c text)",
      "side.mfa_codes",
    ],
    ["CREATE TABLE AS", "CREATE TABLE mfa_codes AS SELECT 1 AS c", "mfa_codes"],
    ["SELECT INTO", "SELECT 1 AS c INTO mfa_codes", "mfa_codes"],
    ["a view of a denied name", "CREATE VIEW mfa_codes AS SELECT 1 AS c", "mfa_codes"],
    ["a materialized view of a denied name", "CREATE MATERIALIZED VIEW mfa_codes AS SELECT 1 AS c", "mfa_codes"],
    ["a name in capital letters", `CREATE TABLE "Game_SECRETS" (c text)`, `"Game_SECRETS"`],
    ["ALTER TABLE ... RENAME", "CREATE TABLE plain (c text); ALTER TABLE plain RENAME TO mfa_codes", "mfa_codes"],
    ["ALTER INDEX ... RENAME", "CREATE TABLE plain (c text); ALTER INDEX plain RENAME TO mfa_codes", "mfa_codes"],
    ["ALTER VIEW ... RENAME", "CREATE VIEW v AS SELECT 1 AS c; ALTER VIEW v RENAME TO mfa_codes", "mfa_codes"],
    [
      "ALTER MATERIALIZED VIEW ... RENAME",
      "CREATE MATERIALIZED VIEW v AS SELECT 1 AS c; ALTER MATERIALIZED VIEW v RENAME TO mfa_codes",
      "mfa_codes",
    ],
    ["GRANT to readonly", "CREATE TABLE mfa_c (c text); GRANT ALL ON mfa_c TO sectorwars_readonly", "mfa_c"],
    ["GRANT to PUBLIC", "CREATE TABLE mfa_c (c text); GRANT SELECT ON mfa_c TO PUBLIC", "mfa_c"],
    [
      "GRANT on all tables",
      "CREATE TABLE mfa_c (c text); GRANT SELECT ON ALL TABLES IN SCHEMA public TO sectorwars_readonly",
      "mfa_c",
    ],
    [
      "default privileges for PUBLIC",
      "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; CREATE TABLE mfa_c (c text)",
      "mfa_c",
    ],
  ])("does not read what is created by %s", async (_what, script, relation) => {
    await owner(...script.split("; "));
    await mustNotRead(relation);
  });

  test("does not read a denied table while the owner has disabled ordinary triggers", async () => {
    await server.sql("postgres", "GRANT SET ON PARAMETER session_replication_role TO sectorwars_owner");
    await owner(
      "SET session_replication_role = replica",
      "CREATE TABLE mfa_codes (c text)",
      "GRANT SELECT ON mfa_codes TO sectorwars_readonly",
    );
    await server.sql("postgres", "REVOKE SET ON PARAMETER session_replication_role FROM sectorwars_owner");
    await mustNotRead("mfa_codes");
  });

  test("does not read foreign tables that are imported with denied names", async () => {
    await superuser(
      "CREATE EXTENSION postgres_fdw SCHEMA public; CREATE SCHEMA remote; CREATE TABLE remote.mfa_codes (c text); CREATE TABLE remote.ships (c text)",
      `CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/var/run/postgresql', dbname '${game.name}')`,
      "CREATE USER MAPPING FOR postgres SERVER self; CREATE SCHEMA local; GRANT USAGE ON SCHEMA local TO PUBLIC",
      "ALTER DEFAULT PRIVILEGES IN SCHEMA local GRANT SELECT ON TABLES TO sectorwars_readonly",
      "IMPORT FOREIGN SCHEMA remote FROM SERVER self INTO local",
    );
    const rights = await superuser(
      "SELECT relname, has_table_privilege('sectorwars_readonly', oid, 'SELECT') AS may FROM pg_class WHERE relnamespace = 'local'::regnamespace ORDER BY 1",
    );
    expect(rights).toEqual([
      { relname: "mfa_codes", may: false },
      { relname: "ships", may: true },
    ]);
  });

  test("does not read columns that were granted to it, to PUBLIC or to a group", async () => {
    await inGroup(async () => {
      await owner(
        "CREATE TABLE mfa_codes (id int, code text, more text)",
        "GRANT SELECT (id) ON mfa_codes TO sectorwars_readonly",
        "GRANT SELECT (code) ON mfa_codes TO PUBLIC",
        "GRANT SELECT (more) ON mfa_codes TO readers",
        "CREATE TABLE plain (id int)",
        "REVOKE ALL ON plain FROM sectorwars_readonly",
        "GRANT SELECT (id) ON plain TO sectorwars_readonly",
        "ALTER TABLE plain RENAME TO refresh_tokens",
      );
      for (const column of ["id", "code", "more"]) await denied(readonly("mfa_codes", column), column);
      await denied(readonly("refresh_tokens", "id"), "id");
    });
  });

  test("does not read what a group that it is a member of was granted", async () => {
    await inGroup(async () => {
      await owner(
        "CREATE TABLE mfa_codes (c text)",
        "CREATE TABLE ships (c text)",
        "GRANT SELECT ON mfa_codes, ships TO readers",
      );
      await mustNotRead("mfa_codes");
      expect(await superuser("SELECT has_table_privilege('readers', 'ships', 'SELECT') AS may")).toEqual([
        { may: true },
      ]);
    });
  });

  test("loses what a group was granted before it became a member, at the next update", async () => {
    await superuser("CREATE ROLE readers");
    await owner("CREATE TABLE mfa_codes (c text)", "GRANT SELECT ON mfa_codes TO readers");
    await superuser("GRANT readers TO sectorwars_readonly");
    await mayRead("mfa_codes");
    await game.prepare();
    await mustNotRead("mfa_codes");
    await superuser("DROP OWNED BY readers", "DROP ROLE readers");
  });

  test("with a list that names everything, reads no table, while monitor still reads pg_stat_statements", async () => {
    await game.prepare(["*"]);
    await owner("CREATE TABLE ships (c text)", "GRANT SELECT ON ships TO PUBLIC");
    await mustNotRead("ships");
    const [row] = await superuser(
      "SELECT has_table_privilege('sectorwars_monitor', 'public.pg_stat_statements', 'SELECT') AS may",
    );
    expect(row).toEqual({ may: true });
    await denied(readonly("sectorwars_stack.readonly_denied"), "the list itself");
  });

  test("reads other tables that were created and granted in the same ways", async () => {
    await owner(
      "CREATE TABLE ships (c text)",
      "CREATE SCHEMA side CREATE TABLE things (c text)",
      "CREATE TABLE mfaxcodes (c text)",
      "REVOKE SELECT ON ships FROM sectorwars_readonly",
      "GRANT SELECT ON ships TO PUBLIC",
    );
    await mayRead("ships", "side.things", "mfaxcodes");
  });

  test("does not read denied names with letters beyond ASCII, in upper or lower case", async () => {
    await game.prepare(["ÄRGER_*"]);
    await owner(
      `CREATE TABLE "ärger_eins" (c text)`,
      `CREATE TABLE "Ärger_Zwei" (c text)`,
      "CREATE TABLE arger_drei (c text)",
    );
    await mustNotRead(`"ärger_eins"`, `"Ärger_Zwei"`);
    await mayRead("arger_drei");
  });
});

describe("a grant by a role other than the owner", () => {
  const keeps = async (relation: string) => {
    for (const sql of [
      `SELECT * FROM ${relation}`,
      `INSERT INTO ${relation} VALUES (1, 'x')`,
      `UPDATE ${relation} SET id = 2`,
    ]) {
      await expect(app(sql), sql).resolves.toBeDefined();
    }
  };

  test.each(["sectorwars_readonly", "PUBLIC"])(
    "on the table or a column of it to %s has no effect",
    async (grantee) => {
      await owner("CREATE TABLE mfa_codes (id int, code text)");
      for (const what of ["SELECT", "SELECT (code)"]) {
        await owner(`GRANT ${what} ON mfa_codes TO sectorwars_app WITH GRANT OPTION`);
        await app(`GRANT ${what} ON mfa_codes TO ${grantee}`).catch((error) =>
          expect(error).toMatchObject({ code: DENIED }),
        );
        await mustNotRead("mfa_codes");
        await denied(readonly("mfa_codes", "code"), "code");
        await keeps("mfa_codes");
      }
    },
  );

  test("of columns, with a grant option on the whole table, fails with a remedy", async () => {
    await owner(
      "CREATE TABLE plain (id int, code text)",
      "REVOKE ALL ON plain FROM sectorwars_readonly",
      "GRANT SELECT ON plain TO sectorwars_app WITH GRANT OPTION",
    );
    await app("GRANT SELECT (code) ON plain TO sectorwars_readonly");
    await expect(readonly("plain", "code")).resolves.toBeDefined();
    await expect(owner("ALTER TABLE plain RENAME TO mfa_codes")).rejects.toMatchObject({
      message:
        "sectorwars_readonly must not read public.mfa_codes, which is on its deny list, but sectorwars_app granted sectorwars_readonly privileges on columns of it",
      hint: "Let sectorwars_app take them back first: REVOKE ALL (column, ...) ON public.mfa_codes FROM sectorwars_readonly",
    });
    await app("REVOKE ALL (code) ON plain FROM sectorwars_readonly");
    await owner("ALTER TABLE plain RENAME TO mfa_codes");
    await denied(readonly("mfa_codes", "code"), "code");
  });

  test("through a chain of roles has no effect", async () => {
    await inGroup(async () => {
      await superuser("CREATE ROLE middle LOGIN", "GRANT USAGE ON SCHEMA public TO middle");
      await owner(
        "CREATE TABLE mfa_codes (id int, code text)",
        "GRANT SELECT ON mfa_codes TO sectorwars_app WITH GRANT OPTION",
      );
      await app("GRANT SELECT ON mfa_codes TO middle WITH GRANT OPTION");
      await superuser("SET ROLE middle", "GRANT SELECT ON mfa_codes TO readers");
      await mustNotRead("mfa_codes");
      await keeps("mfa_codes");
      await superuser("DROP OWNED BY middle", "DROP ROLE middle");
    });
  });
});

describe("partitions and inheritance children", () => {
  test("of a denied table are denied at any depth, in any order of attaching them", async () => {
    await owner(
      "CREATE TABLE mfa_codes (id int, code text) PARTITION BY LIST (id)",
      "CREATE TABLE deep PARTITION OF mfa_codes FOR VALUES IN (1) PARTITION BY LIST (code)",
      "CREATE TABLE deepest PARTITION OF deep FOR VALUES IN ('a')",
      "CREATE TABLE attached_later (id int, code text)",
      "ALTER TABLE mfa_codes ATTACH PARTITION attached_later FOR VALUES IN (2)",
      "CREATE TABLE tree (id int, code text) PARTITION BY LIST (code)",
      "CREATE TABLE leaf PARTITION OF tree FOR VALUES IN ('b')",
      "ALTER TABLE mfa_codes ATTACH PARTITION tree FOR VALUES IN (3)",
      "CREATE TABLE parent (c text)",
      "CREATE TABLE child () INHERITS (parent)",
      "CREATE TABLE grandchild () INHERITS (child)",
      "CREATE TABLE stray (c text)",
      "ALTER TABLE parent RENAME TO one_secrets",
      "ALTER TABLE stray INHERIT grandchild",
    );
    await mustNotRead("mfa_codes", "deep", "deepest", "attached_later", "tree", "leaf");
    await mustNotRead("one_secrets", "child", "grandchild", "stray");
    await owner("GRANT SELECT ON deepest, stray TO PUBLIC");
    await mustNotRead("deepest", "stray");
  });

  test("that are denied make the tables denied that show their rows, but not their siblings", async () => {
    await owner(
      "CREATE TABLE codes (id int) PARTITION BY LIST (id)",
      "CREATE TABLE codes_1 PARTITION OF codes FOR VALUES IN (1)",
      "CREATE TABLE mfa_2 PARTITION OF codes FOR VALUES IN (2)",
      "CREATE TABLE items (c text)",
      "CREATE TABLE item_secrets (c text)",
      "CREATE TABLE other_items () INHERITS (items)",
    );
    await mustNotRead("mfa_2", "codes");
    await mayRead("codes_1", "items", "other_items");
    await owner("ALTER TABLE item_secrets INHERIT items");
    await mustNotRead("items", "item_secrets");
    await mayRead("other_items");
  });

  test("that are temporary deny nothing, because no other session reads their rows", async () => {
    await owner(
      "CREATE TABLE ships (c text)",
      "CREATE TEMP TABLE mfa_ships () INHERITS (ships)",
      "GRANT SELECT ON ships TO sectorwars_readonly",
    );
    await mayRead("ships");
  });

  test("stay denied when they are detached, and tables when they are renamed, until the owner grants them", async () => {
    await owner(
      "CREATE TABLE mfa_codes (id int) PARTITION BY LIST (id)",
      "CREATE TABLE part PARTITION OF mfa_codes FOR VALUES IN (1)",
      "ALTER TABLE mfa_codes DETACH PARTITION part",
      "ALTER TABLE mfa_codes RENAME TO codes",
    );
    await mustNotRead("part", "codes");
    await game.prepare();
    await mustNotRead("part", "codes");
    await owner("GRANT SELECT ON part TO sectorwars_readonly");
    await mayRead("part");
  });
});

describe("another deny list", () => {
  beforeEach(() =>
    owner(
      "CREATE TABLE mfa_codes (id int) PARTITION BY LIST (id)",
      "CREATE TABLE part PARTITION OF mfa_codes FOR VALUES IN (1)",
      "CREATE TABLE admin_credentials (id int)",
      "CREATE TABLE ships (id int)",
      "CREATE TABLE withheld (id int)",
      "REVOKE SELECT ON withheld FROM sectorwars_readonly",
    ),
  );

  test("restores what only the old list denied, including partitions, and denies what it names", async () => {
    await game.prepare(["admin_*", "ships"]);
    await mayRead("mfa_codes", "part");
    await mustNotRead("admin_credentials", "ships", "withheld");
    await game.prepare();
    await mayRead("ships");
    await mustNotRead("mfa_codes", "part", "admin_credentials", "withheld");
    await game.prepare([]);
    await mayRead("mfa_codes", "part", "admin_credentials", "ships");
    await mustNotRead("withheld");
  });

  test("leaves a partition denied whose own name is still on it", async () => {
    await owner("CREATE TABLE refresh_tokens PARTITION OF mfa_codes FOR VALUES IN (2)");
    await game.prepare(["refresh_tokens"]);
    await mayRead("part");
    await mustNotRead("refresh_tokens", "mfa_codes");
  });
});

describe("the stack's own schema", () => {
  const plain = () => PreparedDatabase.createPlain(server, `plain_${made}`, passwords);

  test("is refused if it belongs to another role", async () => {
    game = await plain();
    await superuser("CREATE SCHEMA sectorwars_stack AUTHORIZATION sectorwars_owner");
    await expect(game.prepare()).rejects.toMatchObject({
      message: `schema sectorwars_stack in database ${game.name} belongs to sectorwars_owner, which is not a superuser`,
      hint: expect.stringContaining("ALTER SCHEMA sectorwars_stack RENAME TO"),
    });
  });

  test.each([
    [
      "a table",
      "CREATE TABLE sectorwars_stack.readonly_denied (pattern text); ALTER TABLE sectorwars_stack.readonly_denied OWNER TO sectorwars_owner",
      "table sectorwars_stack.readonly_denied of sectorwars_owner",
    ],
    [
      "a function",
      "CREATE FUNCTION sectorwars_stack.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION sectorwars_stack.f() OWNER TO sectorwars_app",
      "function sectorwars_stack.f() of sectorwars_app",
    ],
    [
      "a type",
      "CREATE DOMAIN sectorwars_stack.d AS text; ALTER DOMAIN sectorwars_stack.d OWNER TO sectorwars_app",
      "type sectorwars_stack.d of sectorwars_app",
    ],
    [
      "a trigger",
      "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TABLE sectorwars_stack.import (summary jsonb); CREATE TRIGGER t AFTER INSERT ON sectorwars_stack.import EXECUTE FUNCTION public.f()",
      "trigger t on table sectorwars_stack.import",
    ],
    [
      "a rule",
      "CREATE TABLE sectorwars_stack.import (summary jsonb); CREATE RULE r AS ON INSERT TO sectorwars_stack.import DO ALSO SELECT 1",
      "rule r on table sectorwars_stack.import",
    ],
  ])("is refused with %s that could run code as a superuser", async (_what, script, named) => {
    game = await plain();
    await superuser(`CREATE SCHEMA sectorwars_stack; ${script}`);
    await expect(game.prepare()).rejects.toMatchObject({
      message: `schema sectorwars_stack in database ${game.name} contains objects that could run code as a superuser: ${named}`,
      hint: expect.stringContaining("then run pulumi up"),
    });
  });

  test("lets only superusers create in it, and loses grants that were added by hand", async () => {
    await superuser("GRANT ALL ON SCHEMA sectorwars_stack TO sectorwars_owner, PUBLIC");
    await game.prepare();
    for (const who of ["owner", "app", "readonly", "monitor"] as const) {
      await denied(game.as(who, "CREATE TABLE sectorwars_stack.mine (a int)"), who);
    }
  });

  test("shows monitor the deny list, and the owner only what it is granted", async () => {
    await superuser(
      "CREATE TABLE sectorwars_stack.seeds (a int); GRANT SELECT, INSERT ON sectorwars_stack.seeds TO sectorwars_owner",
    );
    await expect(owner("INSERT INTO sectorwars_stack.seeds VALUES (1)")).resolves.toBeDefined();
    await expect(game.as("monitor", "SELECT * FROM sectorwars_stack.readonly_denied")).resolves.toHaveLength(6);
    await denied(owner("SELECT * FROM sectorwars_stack.readonly_denied"), "the owner");
    await denied(game.as("monitor", "SELECT * FROM sectorwars_stack.seeds"), "monitor");
    await denied(app("SELECT * FROM sectorwars_stack.seeds"), "app");
  });

  test("lets only superusers run its functions", async () => {
    for (const who of ["owner", "app", "readonly", "monitor"] as const) {
      await denied(game.as(who, "SELECT sectorwars_stack.revoke_denied('{*}', NULL)"), who);
    }
  });
});

describe("outside the application's database", () => {
  test.each(["owner", "app", "readonly", "monitor"] as const)("%s cannot use template1", async (who) => {
    await denied(
      withConnection(game.address(who, "template1"), (client) => client.query("SELECT")),
      who,
    );
  });
  test.each(["owner", "app", "readonly"] as const)("%s cannot use the database postgres", async (who) => {
    await denied(
      withConnection(game.address(who, "postgres"), (client) => client.query("SELECT")),
      who,
    );
  });
  test("monitor can connect to postgres, and create nothing there", async () => {
    const attempt = (sql: string) => withConnection(game.address("monitor", "postgres"), (client) => client.query(sql));
    await expect(attempt("SELECT * FROM pg_stat_activity")).resolves.toBeDefined();
    for (const sql of [
      "CREATE TEMP TABLE t (a int)",
      "SELECT lo_create(0)",
      "SELECT lo_from_bytea(0, 'x')",
      "CREATE SCHEMA s",
    ]) {
      await denied(attempt(sql), sql);
    }
  });
});

describe("large and temporary objects", () => {
  const creations = ["SELECT lo_creat(-1)", "SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')"];

  test.each(["app", "readonly", "monitor"] as const)("%s creates no large objects", async (who) => {
    for (const sql of creations) await denied(game.as(who, sql), sql);
  });
  test("the owner creates large objects, which the app role reads and writes after a grant", async () => {
    for (const sql of creations) await expect(owner(sql), sql).resolves.toBeDefined();
    await owner("SELECT lo_from_bytea(4711, 'rows')");
    await denied(app("SELECT lo_get(4711)"), "lo_get");
    await denied(app("SELECT lo_put(4711, 0, 'x')"), "lo_put");
    await owner("GRANT SELECT, UPDATE ON LARGE OBJECT 4711 TO sectorwars_app");
    await expect(
      app("SELECT lo_put(4711, 0, 'R')", "SELECT convert_from(lo_get(4711), 'UTF8') AS text"),
    ).resolves.toEqual([{ text: "Rows" }]);
  });
  const temporary: [Who, boolean][] = [
    ["owner", true],
    ["app", true],
    ["readonly", false],
    ["monitor", false],
  ];
  test.each(temporary)("%s creates temporary tables: %s", async (who, may) => {
    const attempt = game.as(who, "CREATE TEMP TABLE t (a int)");
    if (may) await expect(attempt).resolves.toBeDefined();
    else await denied(attempt, who);
  });
  test("app's grant of TEMPORARY to another role lasts until the next update", async () => {
    await owner(`GRANT TEMPORARY ON DATABASE ${game.name} TO sectorwars_app WITH GRANT OPTION`);
    await app(`GRANT TEMPORARY ON DATABASE ${game.name} TO sectorwars_readonly`);
    await game.prepare();
    await denied(game.as("readonly", "CREATE TEMP TABLE t (a int)"), "readonly");
    await expect(app("CREATE TEMP TABLE t (a int)")).resolves.toBeDefined();
  });
});

test("a statement about one of 1000 tables reads few rows of the catalog for the deny list", async () => {
  await owner(
    "DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, name text)', i); END LOOP; END $$",
    "DO $$ BEGIN FOR i IN 1..10 LOOP EXECUTE format('CREATE TABLE mfa_%s (id int PRIMARY KEY, name text)', i); END LOOP; END $$",
  );
  await superuser("ANALYZE pg_class; ANALYZE pg_inherits");
  const rowsRead = (sql: string) =>
    withConnection(game.address("owner"), async (client) => {
      // The first statement fills the session's caches.
      await client.query("CREATE TABLE first_of_all (id int)");
      await client.query(`BEGIN; ${sql}`);
      const { rows } = await client.query(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int AS read FROM pg_stat_xact_sys_tables",
      );
      await client.query("ROLLBACK; DROP TABLE first_of_all");
      return rows[0].read as number;
    });
  const statements = {
    create: "CREATE TABLE extra (id int)",
    alter: "ALTER TABLE t17 ALTER name SET STATISTICS 17",
    grant: "GRANT SELECT ON t17 TO sectorwars_app",
  };
  const more: Record<string, number> = {};
  for (const [name, sql] of Object.entries(statements)) {
    const withTrigger = await rowsRead(sql);
    await superuser("ALTER EVENT TRIGGER sectorwars_deny_readonly DISABLE");
    more[name] = withTrigger - (await rowsRead(sql));
    await superuser("ALTER EVENT TRIGGER sectorwars_deny_readonly ENABLE ALWAYS");
  }
  const relations = Number((await superuser("SELECT count(*) AS relations FROM pg_class"))[0]?.relations);
  expect(relations).toBeGreaterThan(3000);
  expect(more.create).toBeLessThan(relations / 10);
  expect(more.alter).toBeLessThan(relations / 10);
  // PostgreSQL does not tell an event trigger which tables are granted, so it checks all of them, once or twice.
  expect(more.grant).toBeLessThan(2 * relations);
});
