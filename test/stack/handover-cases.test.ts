/** Hands over to applications of many shapes, and checks with `docker compose config` what each service gets. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, describe, expect, test, vi } from "vitest";
import { overrideFile } from "../../components/handover/compose-paths.ts";
import { valuesOf } from "../../components/handover/env-values.ts";
import type { HandOverInputs } from "../../components/handover/handover.ts";
import { provider } from "../../components/handover/handover-provider.ts";
import { composeWords } from "../../lib/docker-compose.ts";
import { shellWord } from "../../lib/shell-word.ts";
import { handOverInputs } from "../support/handover-inputs.ts";

const run = promisify(execFile);
const stack = `u${randomBytes(4).toString("hex")}`;
const override = overrideFile(process.cwd(), stack);
const URL_INSIDE = "postgresql://sectorwars_app:apppw@database:5432/sectorwars_dev";
const URL_HERE = "postgresql://sectorwars_app:apppw@localhost:15500/sectorwars_dev";
const WAITS = { condition: "service_completed_successfully", required: true };
const POOLS = { SQLALCHEMY_MAX_OVERFLOW: "10", SQLALCHEMY_POOL_SIZE: "5", SQLALCHEMY_POOL_TIMEOUT: "30" };
/** The variables of every service that uses the database, which it reaches at `at`. */
const variables = (at = "database:5432", scheme = "postgresql") => ({
  DATABASE_URL: `${scheme}://sectorwars_app:apppw@${at}/sectorwars_dev`,
  DATABASE_TEST_URL: `${scheme}://sectorwars_app:apppw@${at}/sectorwars_dev_test`,
  ...POOLS,
});

/** A service as `docker compose config` prints it. */
type Service = Record<string, unknown> & { environment?: Record<string, string>; profiles?: string[] };

const login = (database: string) => ({ database, user: "sectorwars_app", password: "apppw" });
const said: string[] = [];
let parent: string;
let folder: string;

/** Returns the services that `docker compose config` prints in the application's folder. */
async function config(...options: string[]): Promise<Record<string, Service>> {
  const [program, ...first] = composeWords();
  const { COMPOSE_FILE: _file, DATABASE_URL: _url, ...environment } = process.env;
  const { stdout } = await run(program, [...first, ...options, "config", "--format", "json"], {
    cwd: folder,
    env: environment,
  });
  return JSON.parse(stdout).services ?? {};
}

/** An application with the hand-over's files, its services before and after, and the hand-over's output. */
interface HandedOver {
  before: Record<string, Service>;
  after: Record<string, Service>;
  env: Record<string, string>;
  list: string;
  again: (more?: Partial<HandOverInputs>) => Promise<boolean | undefined>;
  takeAway: () => Promise<void>;
}

async function handOver(
  name: string | undefined,
  more: Partial<HandOverInputs> = {},
  files: Record<string, string> = {},
): Promise<HandedOver> {
  vi.spyOn(console, "log").mockImplementation((line: string) => said.push(line));
  parent = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
  // Characters that are special in shells, in Compose files and in .env files.
  folder = join(parent, name === undefined ? 'a "$game"' : "a pilot's game");
  if (name === undefined) await mkdir(folder);
  else await cp(`test/cases/handover/${name}`, folder, { recursive: true });
  for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text);
  const env = join(folder, more.file ?? ".env");
  if (existsSync(join(folder, "env"))) await rename(join(folder, "env"), join(folder, ".env"));
  const original = await readFile(env).catch(() => undefined);
  const now = () => config("--profile", "*").catch(() => ({}));
  const before = await now();
  const inputs: HandOverInputs = {
    ...handOverInputs({
      stack,
      folder,
      network: "the-network",
      container: "the-container",
      logins: { main: login("sectorwars_dev"), test: login("sectorwars_dev_test"), further: {} },
      maxConnections: 500,
    }),
    ...more,
  };
  const { outs } = await provider.create(inputs);
  return {
    before,
    after: await (more.file ? config("--env-file", ".env", "--env-file", more.file) : now()),
    env: valuesOf(await readFile(env, "utf8")),
    list: said.join("\n"),
    again: async (more) => (await provider.diff?.("id", outs, { ...inputs, ...more }))?.changes,
    async takeAway() {
      await provider.delete?.("id", outs);
      expect(await readFile(env).catch(() => undefined)).toEqual(original);
      expect(await now()).toEqual(before);
      expect(existsSync(override)).toBe(false);
    },
  };
}

afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  said.length = 0;
  await rm(parent, { recursive: true, force: true });
  await rm(join(override, ".."), { recursive: true, force: true });
});

/** Returns a service with these parts replaced. */
const changed = (service: Service | undefined, parts: Record<string, unknown>) => {
  const { depends_on: _on, ...rest } = service ?? {};
  const environment = { ...service?.environment, ...(parts.environment as object | undefined) };
  return { ...rest, ...parts, ...(Object.keys(environment).length > 0 ? { environment } : {}) };
};

describe("an application whose services", () => {
  test("use other variables that refer to DATABASE_URL: they resolve to the new value", async () => {
    const { before, after, env, again, takeAway } = await handOver("a1");
    expect(env).toMatchObject({
      DATABASE_URL: URL_HERE,
      ALEMBIC_URL: URL_HERE,
      SQLALCHEMY_DATABASE_URI: `${URL_HERE}?application_name=x`,
      DB_HOST: "second",
    });
    expect(Object.keys(after).sort()).toEqual(["database-ready", "gameserver"]);
    expect(after.gameserver).toEqual(
      changed(before.gameserver, {
        environment: { ...variables(), ALEMBIC_URL: URL_INSIDE, URI: `${URL_INSIDE}?application_name=x` },
        depends_on: { "database-ready": WAITS },
      }),
    );
    expect(await again()).toBe(false);
    await takeAway();
  });

  test("use only env_file: they are recognised, and none gets the superuser's password", async () => {
    const { before, after, again, takeAway } = await handOver("a2");
    const COMPOSE_FILE = `${folder}/docker-compose.yml:${override}`;
    expect(after.api).toEqual(
      changed(before.api, {
        environment: { ...variables(), COMPOSE_FILE },
        depends_on: { "database-ready": WAITS },
      }),
    );
    expect(after.worker).toEqual(
      changed(before.worker, {
        environment: { ...variables(), COMPOSE_FILE },
        depends_on: { api: { condition: "service_started", required: true }, "database-ready": WAITS },
      }),
    );
    expect(JSON.stringify(after)).not.toContain("superpw");
    expect(await readFile(join(folder, ".env"), "utf8")).not.toMatch(/superpw|DB_SUPERUSER/);
    // The services now read our block too, which must not change the result.
    expect(await again()).toBe(false);
    await takeAway();
  });

  test("use the host's network: they get the published port, and no network", async () => {
    const { before, after, list, again, takeAway } = await handOver("a3");
    expect(after.api).toEqual(
      changed(before.api, { environment: variables(), depends_on: { "database-ready": WAITS } }),
    );
    expect(after.metrics).toEqual(
      changed(before.metrics, { environment: variables("127.0.0.1:15500"), depends_on: { "database-ready": WAITS } }),
    );
    expect(list).toContain("api, metrics (at 127.0.0.1:15500)");
    expect(await again()).toBe(false);
    await takeAway();
  });

  test("are linked to the database, or share its network: the project stays valid", async () => {
    const { before, after, again, takeAway } = await handOver("a4");
    const { links: _links, ...api } = before.api ?? {};
    expect(after.api).toEqual(
      changed(api, {
        environment: variables(),
        depends_on: { "database-ready": WAITS },
        external_links: ["the-container:db"],
      }),
    );
    expect(after.exporter).toEqual(
      changed(before.exporter, {
        environment: variables("localhost:5432"),
        depends_on: { "database-ready": WAITS },
        network_mode: "container:the-container",
      }),
    );
    expect(await again()).toBe(false);
    await takeAway();
  });

  test("use profiles, anchors and extends, next to a service with its own database", async () => {
    const { before, after, env, list, again, takeAway } = await handOver("profiles");
    for (const name of ["gameserver", "worker"]) {
      expect(after[name]).toEqual(
        changed(before[name], { environment: variables(), depends_on: { "database-ready": WAITS } }),
      );
    }
    const superuser = {
      DB_HOST: "database",
      DB_PORT: "5432",
      DB_SUPERUSER: "postgres",
      DB_SUPERUSER_PASSWORD: "superpw",
    };
    expect(after["region-manager"]?.environment).toEqual({ ...variables(), ...superuser });
    for (const name of ["central-nexus-db", "redis", "ui"]) expect(after[name]).toEqual(before[name]);
    const nexus = after["central-nexus-server"];
    expect(nexus?.environment?.DATABASE_URL).toBe("postgresql://postgres:nx@central-nexus-db:5432/nexus");
    expect(nexus?.depends_on).toEqual(before["central-nexus-server"]?.depends_on);
    // database-ready has the profiles of the services that wait for it, so it never starts alone.
    expect(after["database-ready"]?.profiles).toEqual(["development", "production"]);
    expect(Object.keys(await config())).toEqual([]);
    const production = ["central-nexus-db", "database-ready", "gameserver", "redis", "worker"];
    expect(Object.keys(await config("--profile", "production")).sort()).toEqual(production);
    expect(Object.keys(await config("--profile", "development"))).toHaveLength(8);
    expect(env.POSTGRES_PASSWORD).toBe("pw1");
    expect(list).toMatch(/services +gameserver, region-manager \(superuser\), worker\n/);
    expect(list).toMatch(/unchanged +central-nexus-db, central-nexus-server, redis, ui\n/);
    expect(list).toMatch(
      /next +cd '.*a pilot'\\''s game' && (docker compose|docker-compose) --profile development up --wait/,
    );
    expect(list).toContain("dev-scripts/start.sh:4, dev-scripts/start.sh:6: these lines pass files to docker compose");
    expect(list).toContain(`-f ${override}`);
    expect(list).toContain("They also name docker-compose.dev.yml");
    expect(await again()).toBe(false);
    await takeAway();
  });

  test("take host, user and password from separate variables, as the FastAPI template does", async () => {
    const { before, after, env, again, takeAway } = await handOver("parts", { service: "db" });
    const parts = { POSTGRES_DB: "sectorwars_dev", POSTGRES_USER: "sectorwars_app", POSTGRES_PASSWORD: "apppw" };
    expect(env).toMatchObject({
      ...parts,
      POSTGRES_SERVER: "localhost",
      POSTGRES_PORT: "15500",
      REDIS_HOST: "localhost",
    });
    for (const name of ["backend", "prestart"]) {
      const here = { POSTGRES_SERVER: "database", POSTGRES_PORT: "5432", REDIS_HOST: "localhost" };
      expect(after[name]?.environment).toMatchObject({ ...variables(), ...parts, ...here });
      expect(Object.keys(after[name]?.networks as object)).toEqual(["default", "sectorwars-network", "traefik-public"]);
      // Scripts that wait for the host still find it by its former name.
      expect(after[name]?.external_links).toEqual(["the-container:db"]);
    }
    expect(after.backend?.depends_on).toEqual({ prestart: WAITS, "database-ready": WAITS });
    expect(after.frontend).toEqual(before.frontend);
    expect(await again()).toBe(false);
    await takeAway();
  });

  test("are of every kind at once, in Compose files that include others", async () => {
    const { before, after, list, again, takeAway } = await handOver("shapes", { service: "pg", networkKey: "front" });
    expect(after.api?.environment).toMatchObject({
      ...variables("database:5432", "postgresql+asyncpg"),
      DATABASE_URL: `${URL_INSIDE.replace("postgresql", "postgresql+asyncpg")}?application_name=api`,
      PGHOST: "database",
      PGPASSWORD: "apppw",
    });
    // It shares another service's network, so that service must join the stack's network.
    expect(after.api?.network_mode).toBe("service:vpn");
    expect(Object.keys(after.vpn?.networks as object)).toEqual(["front", "sectorwars-stack"]);
    expect(after.vpn?.environment).toBeUndefined();
    expect(after.pgbouncer?.environment).toMatchObject({ DB_HOST: "database", DB_USER: "sectorwars_app" });
    expect(after.web?.environment).toMatchObject({
      DATABASE_URL: URL_INSIDE,
      CELERY_RESULT_BACKEND: `db+${URL_INSIDE}`,
    });
    expect(after.web?.networks).toEqual({ front: { ipv4_address: "172.31.9.5" }, "sectorwars-stack": {} });
    expect(after.java?.environment).toMatchObject({
      SPRING_DATASOURCE_URL: "jdbc:postgresql://database:5432/sectorwars_dev?ssl=false",
      SPRING_DATASOURCE_PASSWORD: "apppw",
    });
    expect(after.dotnet?.environment).toMatchObject({
      ConnectionStrings__Default:
        "Host=database;Port=5432;Database=sectorwars_dev;Username=sectorwars_app;Password=apppw",
      SESSION_DRIVER: "database",
    });
    expect(after.backup).toMatchObject({ environment: { POSTGRES_HOST: "database:5432" } });
    expect(after.backup).not.toHaveProperty("volumes_from");
    expect(after.backup).not.toHaveProperty("network_mode");
    const container = "container:the-container";
    expect(after.exporter).toMatchObject({ pid: container, network_mode: container });
    expect(after.exporter?.environment?.DATA_SOURCE_NAME).toBe(
      "postgresql://sectorwars_app:apppw@localhost:5432/sectorwars_dev?sslmode=disable",
    );
    expect(after.lonely).toEqual(before.lonely);
    expect(list).toMatch(/database +services also use the database "celery" of that server/);
    expect(list).not.toContain('a database "app"');
    expect(list).toContain("backup (POSTGRES_PASSWORD_FILE): the service reads the login from a file");
    expect(await again()).toBe(false);
    await takeAway();
  });
});

describe("further settings", () => {
  test("driver: the URLs' scheme names it", async () => {
    const { after, env, again } = await handOver("a1", { driver: "psycopg" });
    expect(env.DATABASE_URL).toBe(URL_HERE.replace("postgresql", "postgresql+psycopg"));
    expect(after.gameserver?.environment).toMatchObject(variables("database:5432", "postgresql+psycopg"));
    expect(await again({ driver: "asyncpg" })).toBe(true);
  });

  test("composeFiles and file: a launcher's Compose files, and an env file that docker compose does not read by default", async () => {
    const late = "services: {late: {image: a, environment: ['URL=$DATABASE_URL', 'S=$SECRET']}}";
    const files = { "late.yml": late };
    const composeFiles = ["docker-compose.yml", "late.yml"];
    const { after, env, list, again, takeAway } = await handOver("a2", { composeFiles, file: ".env.local" }, files);
    expect(env.COMPOSE_FILE).toBe(`${folder}/docker-compose.yml:${folder}/late.yml:${override}`);
    expect(after.late?.environment).toMatchObject({ ...variables(), URL: URL_INSIDE, S: "x" });
    const [usual, own] = [shellWord(`${folder}/.env`), shellWord(`${folder}/.env.local`)];
    expect(list).toContain(`--env-file ${usual} --env-file ${own} up --wait`);
    expect(await again()).toBe(false);
    await takeAway();
  });

  test("a missing .env file is created, and a variable that only the launcher sets is no error", async () => {
    const compose = `
services:
  database: { image: postgres:15 }
  api: { image: "\${IMAGE:?set by the launcher}", env_file: [.env, more.env] }
  tool: { image: a, environment: [DATABASE_URL, "A=\${DATABASE_URL:?}"] }`;
    const files = { "docker-compose.yml": compose, "more.env": "PGHOST=database\n" };
    vi.stubEnv("IMAGE", undefined);
    vi.stubEnv("COMPOSE_FILE", "other.yml");
    const { env, list, again, takeAway } = await handOver(undefined, {}, files);
    expect(list).toMatch(/first +unset COMPOSE_FILE/);
    expect(env.DATABASE_URL).toBe(URL_HERE);
    expect(list).toMatch(/services +api, tool\n/);
    vi.stubEnv("IMAGE", "a");
    const after = await config();
    expect(after.api?.environment).toMatchObject({ ...variables(), PGHOST: "database" });
    expect(after.tool?.environment).toEqual({ ...variables(), A: URL_INSIDE });
    vi.stubEnv("IMAGE", undefined);
    expect(await again()).toBe(false);
    await takeAway();
  });

  test("a variable that other services use keeps its value, and exported variables of the block change nothing", async () => {
    const compose = `
services:
  database: { image: postgres:15, environment: { POSTGRES_PASSWORD: $POSTGRES_PASSWORD }, ports: ["5433:5432"] }
  other-db: { image: postgres:15, environment: { POSTGRES_PASSWORD: $POSTGRES_PASSWORD } }
  api: { image: a, environment: { DB_HOST: database, POSTGRES_PASSWORD: $POSTGRES_PASSWORD, ALEMBIC_URL: $ALEMBIC_URL } }`;
    const env = "DB_HOST=localhost\nDB_PORT=5433\nPOSTGRES_PASSWORD=pw12\nALEMBIC_URL=$DATABASE_URL\nDATABASE_URL=\n";
    const files = { "docker-compose.yml": compose, ".env": env };
    const { env: values, after, before, again, takeAway } = await handOver(undefined, {}, files);
    expect(values).toMatchObject({ DB_PORT: "15500", POSTGRES_PASSWORD: "pw12", ALEMBIC_URL: URL_HERE });
    expect(after["other-db"]).toEqual(before["other-db"]);
    expect(after.api?.environment).toMatchObject({ DB_HOST: "database", POSTGRES_PASSWORD: "apppw" });
    for (const [name, value] of Object.entries(values)) vi.stubEnv(name, value);
    expect(await again()).toBe(false);
    vi.unstubAllEnvs();
    await takeAway();
  });

  test("the sum of pools counts the services that were found", async () => {
    await expect(handOver("a2", { maxConnections: 50 })).rejects.toThrow(
      "maxConnections is 50: the application's pools do not fit. 2 services x 1 worker x 2 engines (sync, async) x (pool 5 + overflow 10) = 60",
    );
    await rm(parent, { recursive: true });
    const { list } = await handOver("a2", {
      maxConnections: 50,
      pools: { services: 1, workers: 1, size: 5, overflow: 10 },
    });
    expect(list).toContain("next");
  });
});
