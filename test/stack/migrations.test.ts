/** Migrations with a real Alembic and a real database: when they run, which rights they have, and what a failure leaves. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { execInBackupContainer } from "../../components/backups/backup-container.ts";
import { parseReport } from "../../components/backups/report.ts";
import { ensureServiceImage } from "../../components/migrations/application.ts";
import { type MigrationsSpec, runMigrations } from "../../components/migrations/run-migrations.ts";
import { hashPassword } from "../../components/seed/password-hash.ts";
import { docker } from "../../lib/docker.ts";
import { shellWord } from "../../lib/shell-word.ts";
import { Application } from "../support/application.ts";
import { withConnection } from "../support/session.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

const DENIED = "42501";
const LABEL = "sectorwars.migrations";
let stack: TestStack;
let game: Application;
let first: string;
/** A TCP proxy to Docker's engine, as if the engine were on another machine, and the number of its connections. */
let engine: Server;
let calls = 0;
/** The stack's migrations, as its provider runs them. */
let spec: MigrationsSpec;
/** Variables without which the application's models cannot be imported. */
const VARIABLES = {
  JWT_SECRET: "jwt'secret $1\nof migration lines",
  ARIA_ENCRYPTION_KEY: "aria-key-0123456789",
  ADMIN_USERNAME: "commander",
  ADMIN_PASSWORD: "adminpw-9876",
};
/** The .env file, with two of the variables; the Compose file sets the others. */
const ENV = `JWT_SECRET="jwt'secret \\$1\nof migration lines"\nADMIN_PASSWORD=${VARIABLES.ADMIN_PASSWORD}\n`;
const SECRETS = [VARIABLES.ADMIN_PASSWORD, VARIABLES.ARIA_ENCRYPTION_KEY, "jwt'secret", "of migration lines"];

/** Runs a query as the superuser and returns its only value. */
const value = (sql: string): Promise<unknown> =>
  stack.as(
    "superuser",
    async (client) => (await client.query<unknown[]>({ text: sql, rowMode: "array" })).rows[0]?.[0],
  );
const revision = () => value("SELECT string_agg(version_num, ',') FROM alembic_version");
const relations = () =>
  value(
    "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
  );
const hasTemporaryGrant = () =>
  value("SELECT has_parameter_privilege('sectorwars_owner', 'session_replication_role', 'SET')");
const canConnect = (role: string) => value(`SELECT has_database_privilege('${role}', current_database(), 'CONNECT')`);
const copies = () =>
  value(
    "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ '_(before_migration_?|former_migration|undone)$'",
  );
/** Returns the migration backup's OID and comment. */
const migrationBackup = () =>
  value(`SELECT concat_ws(' ', oid, shobj_description(oid, 'pg_database')) FROM pg_database
    WHERE datname = 'sectorwars_dev_before_migration'`);

/** Runs the migrations outside of an update. Returns their output, and the error's message or an empty string. */
async function migrate(more: Partial<MigrationsSpec> = {}): Promise<{ said: string; error: string }> {
  const said: string[] = [];
  const error = await runMigrations({ ...spec, ...more }, (line) => said.push(line)).then(
    () => "",
    (failure: Error) => failure.message,
  );
  return { said: said.join("\n"), error };
}
const addCrew = () =>
  game.addRevision(
    "0003crew",
    "0002ships",
    "CREATE TABLE crew (id serial PRIMARY KEY); ALTER TABLE ships ADD COLUMN crew int",
    "DROP TABLE crew; ALTER TABLE ships DROP COLUMN crew",
  );
const containers = () => docker(["ps", "-aq", "--filter", `label=${LABEL}=${stack.name}`]);
/**
 * Checks what must hold while no migration runs: no temporary grant, no connection lock, no tables of other owners, no container, and the
 * first migration's REVOKE is still in effect.
 */
async function expectNoTraces(): Promise<void> {
  expect(await hasTemporaryGrant()).toBe(false);
  expect(await canConnect("sectorwars_app")).toBe(true);
  expect(await canConnect("sectorwars_monitor")).toBe(true);
  expect(await value("SELECT has_database_privilege('sectorwars_app', current_database(), 'TEMPORARY')")).toBe(true);
  expect(
    await value("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"),
  ).toBe(null);
  expect(
    await value(`SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_class c
      WHERE relnamespace = 'public'::regnamespace AND relowner <> 'sectorwars_owner'::regrole
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')`),
  ).toBe(null);
  expect(
    await value(`SELECT coalesce(bool_or(has_table_privilege('sectorwars_app', oid, 'UPDATE, DELETE')), false)
      FROM pg_class WHERE relname = 'admin_action_logs'`),
  ).toBe(false);
  expect(await containers()).toBe("");
}

beforeAll(async () => {
  game = await Application.make();
  await game.checkIn(ENV);
  stack = await TestStack.make({ bootstrap: "empty", memory: "512", alembic: game.gameserver }, game.buildEnvironment);
  first = (await stack.up()).text;
  const { urls } = await stack.outputs();
  engine = createServer({ allowHalfOpen: true }, (socket) => {
    calls += 1;
    const local = connect({ path: "/var/run/docker.sock", allowHalfOpen: true });
    socket.pipe(local).pipe(socket);
    for (const end of [socket, local]) end.on("error", () => [socket, local].map((one) => one.destroy()));
  });
  await once(engine.listen(0, "127.0.0.1"), "listening");
  spec = {
    stack: stack.name,
    address: urlAddress(urls.superuser),
    owner: "sectorwars_owner",
    ownerPassword: urlAddress(urls.owner).password,
    folder: game.gameserver,
    image: game.image,
    variables: VARIABLES,
    sources: ["the test"],
    arguments: [],
    wanted: "head",
    allowDowngrade: false,
    network: stack.names.network,
    alias: stack.names.alias,
    dockerHost: `tcp://127.0.0.1:${(engine.address() as AddressInfo).port}`,
  };
});
afterAll(async () => {
  engine?.close();
  await stack.end();
  await game.end();
});

test("the application's passlib and argon2-cffi accept the administrator's password in every hash scheme", async () => {
  const schemes = ["argon2id", "bcrypt", "scrypt", "pbkdf2_sha256"];
  const hashes = await Promise.all(schemes.map((scheme) => hashPassword(scheme, "a password")));
  const program = `
import argon2, json, sys
from passlib.context import CryptContext
context = CryptContext(schemes=["argon2", "bcrypt", "scrypt", "pbkdf2_sha256"])
hashes = json.load(sys.stdin)
for hash in hashes:
    print(context.identify(hash), context.verify("a password", hash), context.verify("another", hash))
print(argon2.PasswordHasher().verify(hashes[0], "a password"))`;
  const verify = ["run", "--rm", "-i", "--network", "none", game.image, "python3", "-c", program];
  const said = await docker(verify, { input: JSON.stringify(hashes) });
  const fits = ["argon2", "bcrypt", "scrypt", "pbkdf2_sha256"].map((scheme) => `${scheme} True False`);
  expect(said.trim().split("\n")).toEqual([...fits, "True"]);
});

describe("the first run", () => {
  test("upgrades the schema to head, as the owner, and prints each revision", async () => {
    expect(first).toContain("migrations: 2 revisions from an empty chain to 0002ships");
    expect(first).toContain("1. 0001first first tables");
    expect(first).toContain("migrations: 2 of 2: 0002ships ships");
    expect(await revision()).toBe("0002ships");
    expect((await stack.outputs()).revision).toBe("0002ships");
    expect(await value("SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE schemaname = 'public'")).toBe(
      "sectorwars_owner",
    );
    await expectNoTraces();
  });

  test("gives app all new tables, gives readonly those that are not denied, and keeps the migration's REVOKE", async () => {
    await stack.as("app", async (client) => {
      await client.query("INSERT INTO ships (name) VALUES ('Rocinante')");
      await client.query("INSERT INTO admin_action_logs (action) VALUES ('looked')");
      for (const sql of [
        "DELETE FROM admin_action_logs",
        "UPDATE admin_action_logs SET action = ''",
        "CREATE TABLE mine ()",
      ]) {
        await expect(client.query(sql)).rejects.toMatchObject({ code: DENIED });
      }
    });
    await stack.as("readonly", async (client) => {
      expect((await client.query("SELECT name FROM ships")).rows).toEqual([{ name: "Rocinante" }]);
      await expect(client.query("SELECT * FROM admin_credentials")).rejects.toMatchObject({ code: DENIED });
    });
  });

  test("builds and uses the image of the service that builds the project, with the application's environment", async () => {
    expect(first).toContain(`migrations: building ${game.image}, the image of the service gameserver`);
    expect(first).toContain(`migrations: in ${game.image}, the image of the service gameserver`);
    expect(await docker(["image", "ls", "-q", `sectorwars-migrations-${stack.name}`])).toBe("");
  });

  test("shows no password and no secret of the application anywhere", async () => {
    const { urls } = await stack.outputs();
    const shown = [first, await stack.stateText(), await docker(["logs", stack.names.container])].join("\n");
    for (const url of Object.values(urls)) expect(shown).not.toContain(new URL(url).password);
    for (const secret of SECRETS) expect(shown).not.toContain(secret);
  });

  test("is not repeated when the application's .env file or alembicEnvironment changes", async () => {
    await game.write(".env", `COMPOSE_PROJECT_NAME=${game.project}\n${ENV}MORE=1\n`);
    await stack.succeed(
      "config",
      "set",
      "--secret",
      "--path",
      "alembicEnvironment[0]",
      "KEY=hidden-entry",
      "--stack",
      stack.name,
    );
    const { text } = await stack.up("--expect-no-changes");
    expect(text).not.toMatch(/migrations:|hidden-entry|is a secret/);
  });
});

test("the preview lists a new revision, and up runs it while services are connected", async () => {
  await addCrew();
  const preview = (await stack.succeed("preview", "--stack", stack.name)).text;
  expect(preview).toContain("migrations: 1 revision from 0002ships:");
  expect(preview).toContain("1. 0003crew makes 0003crew");
  expect(await revision()).toBe("0002ships");
  // This works only with the entry of alembicEnvironment that the previous test set.
  const settings = await game.read("services/gameserver/src/settings.py");
  await game.write("services/gameserver/src/settings.py", settings.replace("JWT_SECRET", "KEY: str\n    JWT_SECRET"));
  await stack.as("app", async (client) => {
    await client.query("SELECT 1");
    const said = await stack.up();
    expect(said.text).toContain("kept as sectorwars_dev_before_migration");
    expect(said.text).toContain(`./db migrations undo --stack ${stack.name}`);
  });
  await game.write("services/gameserver/src/settings.py", settings);
  expect(await stack.stateText()).not.toContain("hidden-entry");
  expect(await revision()).toBe("0003crew");
  await stack.as("app", (client) => client.query("INSERT INTO crew DEFAULT VALUES"));
  await stack.as("readonly", (client) => client.query("SELECT * FROM crew"));
  await expectNoTraces();
});

describe("fails before it changes anything:", () => {
  const expectRefusal = async (texts: string[], more: Partial<MigrationsSpec> = {}) => {
    const { error } = await migrate(more);
    for (const text of texts) expect(error).toContain(text);
    expect(await revision()).toBe("0003crew");
    await expectNoTraces();
  };

  test("a syntax error, with its file and line", async () => {
    await game.write(
      "services/gameserver/alembic/versions/broken.py",
      'revision = "broken"\ndown_revision = "0003crew"\ndef upgrade(:\n',
    );
    await expectRefusal([
      "cannot be read: SyntaxError",
      "at alembic/versions/broken.py:3",
      "The database is untouched.",
    ]);
    await game.removeRevision("broken");
  });

  test("several heads, which the error names; alembicRevision chooses one", async () => {
    await game.addRevision("0003other", "0002ships", "SELECT 1");
    await expectRefusal([
      "has several heads: 0003",
      "0003other",
      "Merge them (alembic merge), or choose one: pulumi config set alembicRevision 0003",
    ]);
    // A prefix of the revision is enough, and the database is at that revision.
    expect(await migrate({ wanted: "0003c" })).toEqual({ said: "", error: "" });
    await expectRefusal(['alembicRevision is "0003", which the chain', "Multiple revisions start with '0003'"], {
      wanted: "0003",
    });
    await expectRefusal(
      ["no path from the database's revision 0003crew to 0003other: they are on different branches"],
      {
        wanted: "0003other",
      },
    );
    await game.removeRevision("0003other");
  });

  test("a database whose revision the project does not have", async () => {
    await game.removeRevision("0003crew");
    await game.addRevision("0003crewman", "0002ships", "SELECT 1");
    await expectRefusal(["does not know the database's revision 0003crew; its head is 0003crewman"]);
    const superuser = (sql: string) => stack.as("superuser", (client) => client.query(sql));
    await superuser(
      "CREATE TABLE sectorwars_stack.import AS SELECT jsonb_build_object('source', 'the sample (there/game)') AS summary",
    );
    await expectRefusal([
      "The database contains the sample data. Its revision 0003crew belongs to no",
      "pulumi config set bootstrap empty",
    ]);
    await superuser("DROP TABLE sectorwars_stack.import");
    await game.removeRevision("0003crewman");
    await addCrew();
    await expectRefusal(['alembicRevision is "0007", which the chain', "its head is 0003crew"], { wanted: "0007" });
  });

  test("models whose packages the image lacks", async () => {
    const models = await game.read("services/gameserver/src/models.py");
    await game.write("services/gameserver/src/models.py", `import fastapi\n${models}`);
    await game.addRevision("0004any", "0003crew", "SELECT 1");
    await expectRefusal(["No module named 'fastapi'", "Set alembicImage to the application's own image"]);
    const { error } = await migrate({ buildCommand: "docker compose build gameserver" });
    expect(error).toContain(
      "The image has no fastapi. Rebuild it with everything that the models import: docker compose",
    );
    await game.removeRevision("0004any");
    await game.write("services/gameserver/src/models.py", models);
  });

  test("missing settings, with the variables' names and no value", async () => {
    await game.addRevision("0004any", "0003crew", "SELECT 1");
    await expectRefusal(
      [
        `The Alembic project in ${game.gameserver} cannot be read: the application needs variables that are not set: JWT_SECRET, ` +
          "ARIA_ENCRYPTION_KEY, ADMIN_USERNAME, ADMIN_PASSWORD",
        "Its environment comes from the test.",
        "Set them there, or: pulumi config set --secret --path 'alembicEnvironment[0]' 'JWT_SECRET=VALUE'",
        "at src/settings.py:15",
      ],
      { variables: {} },
    );
    const { JWT_SECRET: _, ARIA_ENCRYPTION_KEY: __, ...some } = VARIABLES;
    const { error } = await migrate({ variables: { ...some, JWT_SECRET: "short-1" } });
    expect(error).toContain(
      "needs variables that are not set: ARIA_ENCRYPTION_KEY; and other values of variables: JWT_SECRET (String should have",
    );
    for (const value of ["short-1", ...SECRETS, some.ADMIN_USERNAME]) expect(error).not.toContain(value);
    // A field's variable can have another name than the field.
    const settings = await game.read("services/gameserver/src/settings.py");
    await game.write(
      "services/gameserver/src/settings.py",
      `from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict
class Mail(BaseModel):
    password: str
class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="GAME_", env_nested_delimiter="__")
    jwt: str
    season: int
    key: str = Field(validation_alias="ARIA_KEY")
    mail: Mail
try:
    settings = Settings()
except ValueError as error:
    raise RuntimeError("the settings are wrong") from error
`,
    );
    const { error: renamed } = await migrate({ variables: { GAME_SEASON: "hidden-season", GAME_MAIL__HOST: "x" } });
    expect(renamed).toContain(
      "variables that are not set: GAME_JWT, ARIA_KEY, GAME_MAIL__PASSWORD; and other values of variables: GAME_SEASON (Input should be",
    );
    expect(renamed).not.toContain("hidden-season");
    await game.write("services/gameserver/src/settings.py", settings);
    await game.removeRevision("0004any");
  });

  test("a missing variable that the project itself reads", async () => {
    await game.addRevision("0004any", "0003crew", "SELECT 1");
    const env = await game.read("services/gameserver/alembic/env.py");
    await game.write("services/gameserver/alembic/env.py", `import os\nos.environ["SEASON_KEY"]\n${env}`);
    await expectRefusal([
      "The migrations failed: the application needs variables that are not set: SEASON_KEY",
      "Set it there",
    ]);
    await game.write("services/gameserver/alembic/env.py", env);
    await game.removeRevision("0004any");
  });

  test("a project that connects to another database", async () => {
    await game.addRevision("0004any", "0003crew", "SELECT 1");
    const env = await game.read("services/gameserver/alembic/env.py");
    await game.write(
      "services/gameserver/alembic/env.py",
      env.replace("settings.DATABASE_URL", '"postgresql://a:b@ep-1.neon.tech/neondb"'),
    );
    await expectRefusal([
      "The migrations failed: the project connects to ep-1.neon.tech:5432/neondb, not to DATABASE_URL",
      `'VARIABLE=$\{DATABASE_URL}'`,
      "The database was restored to its state before the run",
    ]);
    await game.write("services/gameserver/alembic/env.py", env);
    await game.removeRevision("0004any");
  });

  test("a missing image", () =>
    expectRefusal(
      ["The image sectorwars-no-such-image:1 for the migrations does not exist", "to auto. The database is untouched."],
      {
        image: "sectorwars-no-such-image:1",
      },
    ));

  test("a service's image that cannot be built, with the build's last lines and no secret", async () => {
    const dockerfile = await game.read("services/gameserver/Dockerfile");
    await game.write(
      "services/gameserver/Dockerfile",
      `ARG BASE\nFROM \${BASE}\nRUN echo "it needs ${VARIABLES.ADMIN_PASSWORD}"; exit 7\n`,
    );
    vi.stubEnv("PYTHON_IMAGE", game.buildEnvironment.PYTHON_IMAGE);
    const application = { alembic: game.gameserver, folder: game.folder, envFile: ".env", service: undefined };
    const service = { name: "gameserver", image: `${game.image}-broken`, isBuilt: true, environment: {} };
    const said: string[] = [];
    const error = await ensureServiceImage(application, service, undefined, (line) => said.push(line)).then(
      () => "",
      ({ message }: Error) => message,
    );
    vi.unstubAllEnvs();
    await game.write("services/gameserver/Dockerfile", dockerfile);
    expect(said).toEqual([`migrations: building ${game.image}-broken, the image of the service gameserver`]);
    expect(error).toContain(
      `Building the image ${game.image}-broken of the service gameserver failed. The last lines of the build:`,
    );
    expect(error).toContain("it needs ***");
    expect(error).toContain("exit code: 7");
    expect(error).toContain(
      `Build it (cd ${shellWord(game.folder)} && docker compose build gameserver), or run the migrations`,
    );
    expect(error).not.toContain(VARIABLES.ADMIN_PASSWORD);
  });

  test("a run while another one is under way", async () => {
    await withConnection({ ...spec.address, database: "postgres" }, async (client) => {
      await client.query("SELECT pg_advisory_lock(8315161638746615145)");
      await expectRefusal(["Migrations are already running on this server"]);
    });
  });
});

describe("a migration that fails", () => {
  test("is reported with revision, SQL, place and log; even committed changes are undone", async () => {
    // The first half commits separately, as CREATE INDEX CONCURRENTLY and ALTER TYPE ... ADD VALUE do.
    await game.addRevision(
      "0004half",
      "0003crew",
      'with op.get_context().autocommit_block(): op.execute("CREATE TABLE half ()"); op.execute("DELETE FROM ships")',
    );
    await game.addRevision("0005fails", "0004half", "SELECT nonsense FROM ships");
    const before = await migrationBackup();
    const { error } = await migrate();
    expect(error).toContain("The migration 0005fails makes 0005fails failed: ");
    expect(error).toContain('column "nonsense" does not exist');
    expect(error).toContain("| SELECT nonsense FROM ships");
    expect(error).toContain("at alembic/versions/0005fails.py:9");
    expect(error).toContain("Running upgrade 0004half -> 0005fails");
    expect(error).toContain("The database was restored to its state before the run, at revision 0003crew.");
    expect(await revision()).toBe("0003crew");
    expect(await relations()).not.toContain("half");
    expect(await value("SELECT count(*)::int FROM ships")).toBe(1);
    // The migration backup is still the one of the last successful run.
    expect(await copies()).toBe("sectorwars_dev_before_migration");
    expect(await migrationBackup()).toBe(before);
    expect(before).toContain('"to":"0003crew"');
    await expectNoTraces();
    await game.removeRevision("0005fails");
    await game.removeRevision("0004half");
  });

  test("shows no password and no secret in its error, even if the application prints them; alembicArguments reach Alembic", async () => {
    await game.addRevision(
      "0004tells",
      "0003crew",
      'op.execute("SELECT 1"); import os; print(os.environ["DATABASE_URL"]); print(os.environ); ' +
        'raise ValueError(os.environ["DATABASE_URL"], os.environ["JWT_SECRET"], op.get_context().config.cmd_opts.x)',
    );
    const { error } = await migrate({ arguments: ["-x", "season=7"] });
    expect(error).toContain("sectorwars_owner:***@database");
    expect(error).toContain("['season=7']");
    for (const secret of [spec.ownerPassword, ...SECRETS]) expect(error).not.toContain(secret);
    await game.removeRevision("0004tells");
  });

  test("because it created objects of another owner is undone: the next migration could not change them", async () => {
    await stack.as("superuser", (client) =>
      client.query("GRANT sectorwars_monitor TO sectorwars_owner; GRANT ALL ON SCHEMA public TO sectorwars_monitor"),
    );
    await game.addRevision(
      "0004strange",
      "0003crew",
      "SET ROLE sectorwars_monitor; CREATE TABLE strange (); CREATE TYPE odd AS (a int); RESET ROLE",
    );
    const { error } = await migrate();
    expect(error).toContain(
      "created objects that do not belong to sectorwars_owner: relation public.odd (sectorwars_monitor), relation",
    );
    expect(error).toContain("relation public.strange (sectorwars_monitor)");
    expect(await relations()).not.toContain("strange");
    await stack.as("superuser", (client) =>
      client.query(
        "REVOKE sectorwars_monitor FROM sectorwars_owner; REVOKE ALL ON SCHEMA public FROM sectorwars_monitor",
      ),
    );
    await game.removeRevision("0004strange");
    await expectNoTraces();
  });
});

describe("a run that ends half-way", () => {
  const isSlow = () => value("SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'");
  /** Waits until the first half is committed and the second runs, with the connection lock and the temporary grant. */
  async function untilSlow(): Promise<void> {
    await vi.waitFor(async () => expect(await isSlow()).toBe(true), { timeout: 30_000, interval: 100 });
    expect(await canConnect("sectorwars_app")).toBe(false);
    expect(await hasTemporaryGrant()).toBe(true);
    expect(await relations()).toContain("slow");
    const shown = (await docker(["inspect", (await containers()).trim()])) + (await run("ps", ["axeww"])).text;
    for (const secret of [spec.ownerPassword, ...SECRETS]) expect(shown).not.toContain(secret);
  }
  /** Runs the migrations in another process, as Pulumi's provider does. */
  function start(): ChildProcess {
    const { address, wanted, ...rest } = spec;
    const application = { alembic: game.gameserver, envFile: ".env" };
    const environment = ["KEY=hidden-entry"];
    const inputs = { ...rest, ...address, wantedRevision: wanted, chain: "", revisions: [], application, environment };
    const child = spawn("node", ["test/support/migrations-child.ts"], { stdio: ["pipe", "ignore", "pipe"] });
    child.stdin.end(JSON.stringify(inputs));
    return child;
  }
  const expectRestored = async () => {
    expect(await revision()).toBe("0003crew");
    expect(await relations()).not.toContain("slow");
    expect(await copies()).toBe("sectorwars_dev_before_migration");
    expect(await migrationBackup()).toContain('"to":"0003crew"');
    await expectNoTraces();
  };
  beforeAll(() =>
    game.addRevision(
      "0004slow",
      "0003crew",
      'with op.get_context().autocommit_block(): op.execute("CREATE TABLE slow ()"); op.execute("SELECT pg_sleep(60)")',
    ),
  );

  test("with its container: the database is restored at once", async () => {
    const ended = migrate();
    await untilSlow();
    await docker(["kill", (await containers()).trim()]);
    expect((await ended).error).toContain("The migration 0004slow makes 0004slow failed: the container ended with");
    await expectRestored();
  });

  test("by Ctrl-C: the database is restored before the process ends", async () => {
    const child = start();
    let said = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      said += chunk;
    });
    await untilSlow();
    child.kill("SIGINT");
    await once(child, "close");
    expect(said).toContain(
      "The migrations were stopped. The database was restored to its state before the run, at revision 0003crew",
    );
    await expectRestored();
  });

  test("by a kill: the server revokes the temporary grant, and the next update restores the database and migrates", async () => {
    const child = start();
    await untilSlow();
    child.kill("SIGKILL");
    await once(child, "close");
    await vi.waitFor(async () => expect(await hasTemporaryGrant()).toBe(false), { timeout: 5000, interval: 50 });
    const [forget] = await Promise.all([
      stack.db("migrations", "forget", "--yes"),
      // Without its client the container ends by itself, and PostgreSQL cancels the statement.
      vi.waitFor(async () => expect(await isSlow()).toBe(false), { timeout: 30_000, interval: 100 }),
    ]);
    expect(await canConnect("sectorwars_app")).toBe(false);
    expect(forget.text).toContain("The last run was killed, and its migration backup is needed");
    await game.removeRevision("0004slow");
    await game.addRevision("0004quick", "0003crew", "CREATE TABLE quick ()", "DROP TABLE quick");
    expect((await stack.up()).text).toContain("the last run was killed before its end");
    expect(await revision()).toBe("0004quick");
    expect(await relations()).not.toContain("slow");
    expect(await copies()).toBe("sectorwars_dev_before_migration");
    await expectNoTraces();
  });
});

describe("to an older revision", () => {
  test("alembicDowngrade allows the downgrades, which run in order, even to base; without it the error names them", async () => {
    const { error } = await migrate({ wanted: "0002ships" });
    expect(error).toContain(
      "Migrating to it runs 2 downgrades, which may drop data: 0004quick makes 0004quick, 0003crew makes 0003crew",
    );
    expect(error).toContain("pulumi config set alembicDowngrade true");
    expect(await revision()).toBe("0004quick");
    // Broken backups do not stop the run, because it has the migration backup.
    await docker(["create", "--name", stack.names.backups, `${stack.names.image}:15`]);
    const { said } = await migrate({ wanted: "base", allowDowngrade: true });
    await docker(["rm", "-v", stack.names.backups]);
    expect(said).toContain(
      "the backups cannot restore all databases of the server as they are now: the server does not archive",
    );
    expect(said).toContain("migrations: 4 downgrades from 0004quick to base");
    expect(said).toContain("migrations: 1 of 4: 0004quick makes 0004quick");
    expect(await revision()).toBe(null);
    expect(await relations()).toBe("alembic_version");
    await expectNoTraces();
  });

  test("undo asks first, restores the database from before the last run, and keeps the undone one", async () => {
    await stack.as("superuser", (client) => client.query("ALTER DATABASE sectorwars_dev SET work_mem TO '7MB'"));
    const migrations = (...args: string[]) => stack.db("migrations", ...args);
    const listed = await migrations();
    expect(listed.text).toMatch(/revision +none/);
    expect(listed.text).toMatch(/migration backup +sectorwars_dev_before_migration, revision 0004quick/);
    const asked = await migrations("undo");
    expect(asked.text).toContain("There is no terminal to ask for confirmation. To confirm, add --yes.");
    expect(asked.code).toBe(2);
    expect(await revision()).toBe(null);
    const undone = await migrations("undo", "--yes");
    expect(undone.text).toContain("The former database is kept as sectorwars_dev_undone");
    expect(undone.code).toBe(0);
    expect(await revision()).toBe("0004quick");
    expect(await value("SELECT count(*)::int FROM ships")).toBe(1);
    // CREATE DATABASE ... TEMPLATE does not copy a database's own settings and grants.
    expect(await value("SHOW work_mem")).toBe("7MB");
    await stack.as("app", (client) => client.query("SELECT * FROM quick"));
    await expectNoTraces();
    expect((await migrations("forget", "--yes")).text).toContain("sectorwars_dev_undone");
    expect(await copies()).toBe(null);
  });

  test("a refresh notices another revision of the schema, and the next up migrates it to head", async () => {
    expect((await migrate({ wanted: "0003crew", allowDowngrade: true })).error).toBe("");
    const status = await stack.db("status");
    expect(status.text).toContain("revision    0003crew\n");
    expect(status.text).toContain(
      "REVISION    the last update migrated it to 0004quick. To migrate it again: pulumi refresh",
    );
    const doctor = await stack.db("doctor");
    expect(doctor.text).toContain("WRONG  Revision: 0003crew; the last update migrated the schema to 0004quick");
    // Each preview and update prints the warning until its commands have been run.
    const warning =
      "warning: The schema of sectorwars_dev is at revision 0003crew; the last update migrated it to 0004quick. To migrate it again: " +
      `pulumi refresh --yes --stack ${stack.name}, then pulumi up --stack ${stack.name}`;
    expect((await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name)).text).toContain(warning);
    expect((await stack.up("--expect-no-changes")).text).toContain(warning);
    await stack.succeed("refresh", "--yes", "--stack", stack.name);
    expect((await stack.up()).text).not.toContain("warning");
    expect(await revision()).toBe("0004quick");
    expect((await stack.up("--expect-no-changes")).text).not.toContain("warning");
    await expectNoTraces();
  });

  test("a revision that the application wrote cannot control the terminal", async () => {
    const write = (revision: string) =>
      stack.as("app", (client) => client.query("UPDATE alembic_version SET version_num = $1", [revision]));
    await write("\u001b[2J\u009b2Jx");
    try {
      for (const said of [
        await stack.db("status"),
        await stack.db("doctor"),
        await stack.pulumi("preview", "--stack", stack.name),
        await stack.pulumi("up", "--yes", "--stack", stack.name),
      ]) {
        expect(said.text).toContain("\\u001b[2J\\u009b2Jx");
        expect(said.text).not.toContain("\u001b[2J");
        expect(said.text).not.toContain("\u009b");
      }
    } finally {
      await write("0004quick");
    }
  });

  test.runIf(process.env.BACKUPS === "all")(
    "with backups, a run prints the time to restore to, and the restored database has no connection lock",
    async () => {
      for (const key of ["backupFull", "backupDifferential", "backupDrill"]) await stack.set(key, "never");
      await stack.set("backups", "true");
      await stack.up();
      const report = async () => parseReport(await execInBackupContainer(stack.name, "report"));
      await expect.poll(async () => (await report()).full.ok, { timeout: 120_000, interval: 500 }).not.toBeNull();
      await game.addRevision("0005drops", "0004quick", "DROP TABLE ships CASCADE", "SELECT 1");
      const { text } = await stack.up();
      const to = /from the backups: \.\/db restore --to (\S+) --stack/.exec(text)?.[1] ?? text;
      expect(await relations()).not.toContain("ships");
      const restored = await stack.db("restore", "--to", to, "--yes");
      expect(restored.text).toContain("./db restore --undo");
      expect(restored.code).toBe(0);
      expect(await revision()).toBe("0004quick");
      expect(await value("SELECT count(*)::int FROM ships")).toBe(1);
      await expectNoTraces();
    },
  );
});

test("the migrations above used the engine over TCP, as if it were on another machine", () => {
  expect(calls).toBeGreaterThan(100);
});
