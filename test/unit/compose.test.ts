import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { composeOverride, networkKeyFor } from "../../components/handover/compose.ts";
import { dataVolumes, type Project, projectOf } from "../../components/handover/compose-project.ts";
import { addressOf, endpointsAt } from "../../components/handover/database-names.ts";
import { activeUsers, profileFor, startCommand } from "../../components/handover/next-command.ts";
import { planRedirects, type ServiceTarget } from "../../components/handover/redirection.ts";

const login = (database: string) => ({ database, user: "app", password: "pw" });
const LOGINS = { main: login("game"), test: login("game_test"), further: { nexus: login("nexus") } };
const SERVER = { alias: "database", port: 5500 };
const TARGET: ServiceTarget = {
  stack: "dev",
  service: "database",
  superuserServices: ["manager"],
  superuser: { user: "postgres", password: "superpw" },
  ...SERVER,
  container: "the-database",
  network: "the-network",
  networkKey: "net",
  image: "the-image:15",
  driver: "",
  remoteUrl: undefined,
  remoteAddresses: [],
  formerDatabase: undefined,
  endpointsFor: endpointsAt(LOGINS, SERVER),
  pools: { SQLALCHEMY_POOL_SIZE: "5" },
};
const REMOTE = {
  ...TARGET,
  remoteUrl: "postgresql://n:p@ep-1.neon.tech/neondb?sslmode=require",
  remoteAddresses: [addressOf("ep-1.neon.tech", undefined)],
  endpointsFor: endpointsAt(LOGINS, SERVER, {
    host: "ep-1.neon.tech",
    port: 5432,
    database: "neondb",
    user: "n",
    password: "p",
  }),
};
const MAIN = {
  DATABASE_URL: "postgresql://app:pw@database:5432/game",
  DATABASE_TEST_URL: "postgresql://app:pw@database:5432/game_test",
  DATABASE_URL_NEXUS: "postgresql://app:pw@database:5432/nexus",
  SQLALCHEMY_POOL_SIZE: "5",
};
const project = (services: Record<string, unknown>, networks: Record<string, unknown> = {}): Project =>
  projectOf({ name: "p", services, networks });
const plan = (of: Project, target = TARGET) => planRedirects(of, target).services;
/** The override as data, without Compose's own tags. */
const override = (of: Project, target = TARGET) =>
  parse(composeOverride(of, planRedirects(of, target), target), { logLevel: "silent" });
const database = { image: "postgres:15", environment: { POSTGRES_PASSWORD: "old", POSTGRES_DB: "oldgame" } };
const on = (...names: string[]) => Object.fromEntries(names.map((name) => [name, { condition: "service_started" }]));

const POOLED: ServiceTarget = {
  ...TARGET,
  endpointsFor: endpointsAt(LOGINS, SERVER, undefined, { alias: "pooler", port: 6500 }),
  pooler: { alias: "pooler", directServices: ["importer"], directEndpointsFor: endpointsAt(LOGINS, SERVER) },
};

describe("the services that connect through the pooler", () => {
  const game = project({
    database,
    game: { depends_on: on("database"), environment: { DB_HOST: "database", DB_PORT: "5432" } },
    host: { depends_on: on("database"), network_mode: "host" },
    beside: { network_mode: "service:database" },
    importer: { depends_on: on("database") },
    manager: { depends_on: on("database") },
  });
  const services = plan(game, POOLED);
  const direct = { DATABASE_URL_DIRECT: MAIN.DATABASE_URL, DATABASE_URL_NEXUS_DIRECT: MAIN.DATABASE_URL_NEXUS };

  test("get its URL, and the direct one beside it; tests stay direct", () => {
    expect(services.game?.environment).toEqual({
      DATABASE_URL: "postgresql://app:pw@pooler:6432/game",
      DATABASE_TEST_URL: MAIN.DATABASE_TEST_URL,
      DATABASE_URL_NEXUS: "postgresql://app:pw@pooler:6432/nexus",
      ...direct,
      DB_HOST: "pooler",
      DB_PORT: "6432",
      SQLALCHEMY_POOL_SIZE: "5",
    });
    expect(services.game?.isPooled).toBe(true);
  });

  test("reach it from the host's network, and from that of the server's container", () => {
    expect(services.host?.environment.DATABASE_URL).toBe("postgresql://app:pw@127.0.0.1:6500/game");
    expect(services.host?.environment.DATABASE_URL_DIRECT).toBe("postgresql://app:pw@127.0.0.1:5500/game");
    expect(services.beside?.environment.DATABASE_URL).toBe("postgresql://app:pw@pooler:6432/game");
  });

  test("are not those that the settings name, nor those with the superuser's login", () => {
    expect(services.importer?.environment).toEqual({ ...MAIN, ...direct });
    expect(services.importer?.isPooled).toBe(false);
    expect(services.manager?.environment).toMatchObject({ ...MAIN, DB_HOST: "database", DB_PORT: "5432" });
    expect(services.manager?.isPooled).toBe(false);
  });

  test("wait until both the server and the pooler answer", () => {
    const { entrypoint } = override(game, POOLED).services["database-ready"];
    expect(entrypoint.at(-1)).toContain("pg_isready -q -h database && pg_isready -q -h pooler -p 6432 && exit 0");
  });
});

describe("the services that get the stack's database", () => {
  test("are those that depend on the old database, or name it in a URL or as a host", () => {
    const services = plan(
      project({
        database: { ...database, container_name: "db-1", ports: [{ target: 5432, published: "5499" }] },
        depends: { depends_on: on("database") },
        url: { environment: { ANY_URL: "postgres://u:p@database/oldgame" } },
        container: { environment: { DB_HOST: "db-1" } },
        published: { environment: { X: "postgresql://u:p@host.docker.internal:5499/oldgame" } },
        localhost: { environment: { X: "postgresql://u:p@localhost:5400/oldgame", REDIS_HOST: "localhost" } },
        other: { environment: { DATABASE_URL: "postgresql://u:p@other-db/x" }, depends_on: on("other-db") },
        "other-db": { image: "postgres:15", environment: { POSTGRES_PASSWORD: "x" } },
        generated: { environment: { PGHOST: "p-database-1" } },
        beside: { network_mode: "container:db-1" },
        words: { environment: { SESSION_DRIVER: "database", TITLE: "the database:5432" }, command: ["database"] },
      }),
    );
    expect(Object.keys(services).sort()).toEqual(["beside", "container", "depends", "generated", "published", "url"]);
    expect(services.beside).toMatchObject({ networkMode: "container:the-database", view: "container" });
    expect(services.depends?.environment).toEqual(MAIN);
    expect(services.url?.environment).toEqual({ ...MAIN, ANY_URL: MAIN.DATABASE_URL });
  });

  test("keep the URL of another database, and get the stack's URL for each of its databases that they name", () => {
    const { both } = plan(
      project({
        database,
        both: {
          depends_on: on("database"),
          environment: {
            DATABASE_URL: "postgresql://u:p@elsewhere.example.com/x",
            GAME_URL: "postgresql://u:p@database/game_test",
            NEXUS_URL: "postgresql://u:p@database/nexus",
          },
        },
      }),
    );
    expect(both?.environment).toEqual({
      GAME_URL: MAIN.DATABASE_TEST_URL,
      NEXUS_URL: MAIN.DATABASE_URL_NEXUS,
    });
  });

  test("get the superuser's variables only if the settings name them", () => {
    const { manager, other } = plan(
      project({ database, manager: { depends_on: on("database") }, other: { depends_on: on("database") } }),
    );
    expect(manager?.environment).toMatchObject({ DB_SUPERUSER: "postgres", DB_SUPERUSER_PASSWORD: "superpw" });
    expect(JSON.stringify(other)).not.toContain("superpw");
  });

  test("include those that used the remote database until now", () => {
    const used = project({
      api: { environment: { DATABASE_URL: "postgresql+asyncpg://n:p@ep-1-pooler.neon.tech/neondb?ssl=require&a=b" } },
    });
    expect(plan(used, { ...TARGET, remoteAddresses: REMOTE.remoteAddresses }).api?.environment.DATABASE_URL).toBe(
      "postgresql+asyncpg://app:pw@database:5432/game?a=b",
    );
    expect(plan(used)).toEqual({});
  });

  test("get the remote database's URL unchanged when they go back to it, and wait for nothing", () => {
    const of = project({
      database,
      api: {
        depends_on: on("database"),
        environment: { DATABASE_URL: "postgresql://u:p@database/oldgame", PGHOST: "database" },
      },
      exporter: { network_mode: "service:database", depends_on: on("database") },
    });
    const services = plan(of, REMOTE);
    expect(services.api).toMatchObject({
      environment: { DATABASE_URL: REMOTE.remoteUrl, PGHOST: "ep-1.neon.tech" },
      dependsOn: {},
      joins: false,
    });
    expect(services.exporter?.networkMode).toBeNull();
    expect(composeOverride(of, planRedirects(of, REMOTE), REMOTE)).not.toMatch(/database-ready|superpw/);
  });

  test("include the application's pooler, and its clients connect to the stack directly", () => {
    const { pool, web } = plan(
      project({
        database,
        pool: { image: "edoburu/pgbouncer:1", environment: { DB_HOST: "database", DB_USER: "u", DB_PASSWORD: "p" } },
        web: { environment: { DATABASE_URL: "postgres://u:p@pool:6432/oldgame" } },
      }),
    );
    expect(pool?.environment).toMatchObject({ DB_HOST: "database", DB_USER: "app", DB_PASSWORD: "pw" });
    expect(web?.environment.DATABASE_URL).toBe(MAIN.DATABASE_URL);
  });
});

describe("the Compose override", () => {
  test("removes the old database, and replaces every reference to it", () => {
    const of = project({
      database,
      a: {
        depends_on: on("database", "b"),
        links: ["database:db", "b"],
        volumes_from: ["database"],
        pid: "service:database",
      },
      b: {},
    });
    const text = composeOverride(of, planRedirects(of, TARGET), TARGET);
    expect(text).toContain('"database": !reset null');
    const { a } = override(of).services;
    expect(a.links).toEqual(["b"]);
    expect(a.volumes_from).toBe("null");
    expect(a.pid).toBe("container:the-database");
    expect(a.external_links).toEqual(["the-database:db"]);
    expect(a.depends_on).toEqual({
      b: { condition: "service_started" },
      "database-ready": { condition: "service_completed_successfully" },
    });
    expect(a.networks).toEqual({ default: {}, net: {} });
    expect(override(of).networks.net).toEqual({ external: true, name: "the-network" });
  });

  test("escapes $ in values, because Compose would expand a variable", () => {
    const dollar = { ...TARGET, pools: { P: `a$b$\{c} "d"` } };
    const of = project({ database, a: { depends_on: on("database") } });
    expect(override(of, dollar).services.a.environment.P).toBe(`a$$b$$\{c} "d"`);
  });

  test("does not reuse an external network or one with fixed addresses, unless it is the stack's network", () => {
    const a = { networks: { net: { ipv4_address: "10.0.0.5" } } };
    expect(networkKeyFor(project({ a }, { net: { name: "p_net" } }), TARGET)).toBe("sectorwars-stack");
    expect(networkKeyFor(project({ a: {} }, { net: { name: "p_net" } }), TARGET)).toBe("net");
    expect(networkKeyFor(project({ a }, { front: { name: "the-network" } }), TARGET)).toBe("front");
    // Other projects use an external network.
    expect(networkKeyFor(project({}, { net: { name: "shared", external: true } }), TARGET)).toBe("sectorwars-stack");
    expect(networkKeyFor(project({}, { net: { name: "the-network", external: true } }), TARGET)).toBe("net");
  });
});

describe("the command that starts the services", () => {
  const of = (...profiles: string[][]) => {
    const users = profiles.map((profiles, i) => [`s${i}`, { profiles, depends_on: on("database") }]);
    return project({ database, ...Object.fromEntries(users), redis: {} });
  };
  const profile = (...profiles: string[][]) => profileFor(of(...profiles), planRedirects(of(...profiles), TARGET));

  test.each([
    [[["prod"], []], undefined],
    [[["production"], ["production"], ["development", "test"]], "development"],
    [[["one"], ["two"], ["two"]], "two"],
    [[["dev"]], "dev"],
  ])("for services with the profiles %j names the profile %s", (profiles, expected) => {
    expect(profile(...profiles)).toBe(expected);
  });

  test("names no profile if the application's variables activate one", () => {
    const some = of(["production"], ["development"]);
    expect(profileFor(some, planRedirects(some, TARGET), ["production"])).toBeUndefined();
    expect(profileFor(some, planRedirects(some, TARGET), ["other"])).toBe("development");
  });

  test("runs services that are counted with their replicas, and without those that others wait for to complete", () => {
    const some = project({
      database,
      one: { profiles: ["dev"], depends_on: on("database"), deploy: { replicas: 3 } },
      two: { profiles: ["prod"], depends_on: on("database") },
      once: { depends_on: on("database") },
      late: { depends_on: { once: { condition: "service_completed_successfully" }, ...on("database") } },
    });
    const redirects = planRedirects(some, TARGET);
    expect(activeUsers(some, redirects, ["dev"])).toBe(4);
    expect(activeUsers(some, redirects, ["*"])).toBe(5);
    expect(activeUsers(some, redirects, [])).toBe(1);
  });

  test("is a shell command with all options that docker compose needs", () => {
    const compose = ["docker", "compose"];
    const usual = { folder: "/a", compose, envFiles: [], profile: undefined, engine: undefined };
    expect(startCommand(usual)).toBe("cd /a && docker compose up --wait");
    expect(
      startCommand({
        ...usual,
        folder: "/my 'game'",
        envFiles: [".env", "b c"],
        profile: "dev",
        engine: "ssh://me@box",
      }),
    ).toBe(
      `cd '/my '\\''game'\\''' && DOCKER_HOST=ssh://me@box docker compose --env-file .env --env-file 'b c' --profile dev up --wait`,
    );
  });
});

test("the data volumes of the database are those mounted at PostgreSQL's data folder", () => {
  const volumes = [
    { type: "volume", source: "pg", target: "/var/lib/postgresql/data" },
    { type: "volume", source: "other", target: "/backups" },
    { type: "bind", source: "/x", target: "/var/lib/postgresql/data" },
  ];
  const of = projectOf({ name: "p", services: { database: { volumes } }, volumes: { pg: { name: "p_pg" } } });
  expect(dataVolumes(of, "database")).toEqual(["p_pg"]);
});
