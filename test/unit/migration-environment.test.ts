import { mkdir, mkdtemp, readdir, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { insertBlock } from "../../components/handover/env-block.ts";
import { type ApplicationSpec, composeServiceOf, readApplication } from "../../components/migrations/application.ts";
import { serviceOfFolder } from "../../components/migrations/compose-service.ts";
import { type EnvironmentParts, migrationEnvironment } from "../../components/migrations/environment.ts";
import { masked, secretValues } from "../../components/migrations/masking.ts";
import { findCompose } from "../../lib/docker-compose.ts";

/** A reference to a variable as it is written in a file. */
const ref = (name: string) => `\${${name}}`;
const connection = { host: "database", port: 5432, user: "owner", password: "ownerpw", database: "game" };
const URL = "postgresql://owner:ownerpw@database:5432/game";

let root: string;
let alembic: string;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "sectorwars-test-")));
  alembic = join(root, "services/gameserver");
  await write("services/gameserver/alembic.ini", "[alembic]");
  await mkdir(join(root, ".git"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(root, { recursive: true, force: true });
});
async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
}
const specOf = (more: Partial<ApplicationSpec> = {}): ApplicationSpec => ({
  alembic,
  folder: undefined,
  envFile: ".env",
  service: undefined,
  ...more,
});
const read = (more: Partial<ApplicationSpec> = {}) => readApplication(specOf(more), connection);
const copies = async () => (await readdir(".local")).filter((name) => name.startsWith("application-env-"));

const COMPOSE = `
x-all: &all
  SHARED: "from an anchor"
services:
  gameserver:
    extends: { file: common.yml, service: base }
    build: ./services/gameserver
    profiles: [development]
    env_file: [more.env, .env]
    environment:
      <<: *all
      DATABASE_URL: \${DATABASE_URL}
      ASYNC_URL: \${DATABASE_URL}?ssl=require
      JWT_SECRET: \${JWT_SECRET}
      DOLLAR: "a$$b"
      SUPERUSER: \${DB_SUPERUSER_PASSWORD:-the application's}
      NOTHING:
  client: { build: ./services/client }
`;

// `script/test unit` requires only Node, so docker compose may be missing.
describe.runIf(findCompose() !== undefined)("the application's environment", () => {
  beforeEach(async () => {
    await write("docker-compose.yml", COMPOSE);
    await write("common.yml", 'services: { base: { environment: { EXTENDED: "yes" } } }');
    await write(".env", "");
    await write("more.env", "MORE=$SHARED_BY_NOBODY-1\nJWT_SECRET=weaker\n");
  });

  test("is its .env and that of its service, as Compose resolves them, without the hand-over's values", async () => {
    const before =
      "JWT_SECRET='a $secret\nof two lines'\nDATABASE_URL=postgresql://neon:pw@ep-1.neon.tech/neondb\nALEMBIC_URL=$DATABASE_URL\nCOMPOSE_PROJECT_NAME=mygame\n";
    const variables = { DATABASE_URL: "postgresql://app:apppw@localhost:5433/game", DB_SUPERUSER_PASSWORD: "rootpw" };
    await write(".env", insertBlock(before, "dev", { ...variables, COMPOSE_FILE: "docker-compose.yml:/no/such/file" }));
    const found = read();
    expect(found.problem).toBeUndefined();
    expect(found.files).toMatchObject({ JWT_SECRET: "a $secret\nof two lines", ALEMBIC_URL: URL });
    expect(found.files).not.toHaveProperty("DB_SUPERUSER_PASSWORD");
    expect(found.service).toMatchObject({ name: "gameserver", image: "mygame-gameserver", isBuilt: true });
    expect(found.service?.environment).toMatchObject({
      SHARED: "from an anchor",
      EXTENDED: "yes",
      JWT_SECRET: "a $secret\nof two lines",
      MORE: "-1",
      DATABASE_URL: URL,
      DOLLAR: "a$b",
      SUPERUSER: "the application's",
    });
    expect(found.service?.environment).not.toHaveProperty("NOTHING");
    expect(found.sources).toEqual([`${root}/.env`, `the service gameserver of docker compose in ${root}`]);
    expect(await copies()).toEqual([]);
    const all = migrationEnvironment({
      files: found.files,
      service: found.service?.environment ?? {},
      blocks: found.blocks,
      extra: [],
      connection,
      superuserPassword: "rootpw",
      process: {},
    });
    expect(all).toMatchObject({
      DATABASE_URL: URL,
      ASYNC_URL: URL,
      ALEMBIC_URL: URL,
      JWT_SECRET: "a $secret\nof two lines",
    });
    // The service reads the whole .env, including the block.
    expect(found.service?.environment).toHaveProperty("DB_SUPERUSER_PASSWORD", "rootpw");
    expect(Object.values(all).join()).not.toMatch(/rootpw|apppw|neon/);
    expect(all).not.toHaveProperty("COMPOSE_FILE");
  });

  test("is read in the configured folder, or above the Alembic project up to its repository", async () => {
    expect(composeServiceOf(specOf())?.name).toBe("gameserver");
    expect(composeServiceOf(specOf({ folder: root }))?.name).toBe("gameserver");
    await rm(join(root, ".git"), { recursive: true });
    await mkdir(join(root, "services/.git"));
    expect(composeServiceOf(specOf())).toBeUndefined();
    await write("services/gameserver/.env", "OWN='its own'\n");
    expect(read()).toMatchObject({ files: { OWN: "its own" }, service: undefined, problem: undefined });
  });

  test("has variables of pulumi up only if a file refers to them, and never Neon's URL", async () => {
    vi.stubEnv("JWT_SECRET", "from outside");
    vi.stubEnv("NEON_DATABASE_URL", "postgresql://neon");
    vi.stubEnv("COMPOSE_FILE", "/no/such/file");
    await write("more.env", "NEON=$NEON_DATABASE_URL\n");
    await write(".env", "");
    const { service } = read();
    expect(service?.environment).toMatchObject({ JWT_SECRET: "from outside", NEON: "" });
  });

  test("lacks the service's part if Compose cannot read its files, and no message contains a value", async () => {
    await write("docker-compose.yml", `${COMPOSE}\n  broken: { image: none, depends_on: [nowhere] }`);
    await write(".env", "JWT_SECRET=hidden12\n");
    expect(read()).toMatchObject({ files: { JWT_SECRET: "hidden12" }, service: undefined });
    expect(read().problem).toMatch(/^docker compose cannot read the files in .*nowhere/);
    expect(() => read({ service: "gameserver" })).toThrow('alembicService is "gameserver", but docker compose cannot');
    for (const broken of ["A B=hidden34", 'C="hidden 56', `D=${"$"}{E hidden`]) {
      await write(".env", `JWT_SECRET=hidden12\n${broken}\n`);
      expect(() => read()).toThrow(`${root}/.env cannot be read: failed to read ${root}/.env: `);
      expect(() => read()).not.toThrow(/hidden/);
    }
  });

  test("cannot come from an unknown service, and the error lists the services", () => {
    expect(() => read({ service: "gamserver" })).toThrow(
      'alembicService is "gamserver", but the application\'s Compose files have no such service. Their services are client, ' +
        "gameserver: pulumi config set alembicService client",
    );
    expect(read({ service: "client" }).service?.name).toBe("client");
  });

  test("lacks the service's part if no service builds the Alembic project", async () => {
    await write("docker-compose.yml", "services: { client: { build: ./services/client } }");
    expect(read().problem).toBe(`no service in ${root} builds ${alembic}`);
  });
});

describe("the service that builds the Alembic project", () => {
  const find = (services: Record<string, { context: string; dockerfile?: string; url?: boolean }>) => {
    const built = Object.entries(services).map(([name, { url, ...build }]) => [
      name,
      { build, environment: url ? { DATABASE_URL: "" } : null },
    ]);
    const { service, others } = serviceOfFolder(
      { name: "p", services: Object.fromEntries(built) },
      "/game/services/api",
      (path) => path,
    );
    return [service?.name, ...others];
  };

  test.each<[string, Parameters<typeof find>[0], (string | undefined)[]]>([
    [
      "the one with its own folder as context before one with a folder above",
      { all: { context: "/game", url: true }, own: { context: "/game/services/api" } },
      ["own"],
    ],
    [
      "the one with a Dockerfile in its folder",
      {
        web: { context: "/game", dockerfile: "services/web/Dockerfile" },
        api: { context: "/game", dockerfile: "services/api/Dockerfile" },
      },
      ["api"],
    ],
    [
      "of several, the one with a DATABASE_URL",
      { a: { context: "/game/services/api" }, worker: { context: "/game/services/api", url: true } },
      ["worker"],
    ],
    [
      "of several, else the one with the folder's name",
      { a: { context: "/game/services/api" }, api: { context: "/game/services/api" } },
      ["api"],
    ],
    [
      "of several, else the first by name, with the others",
      { b: { context: "/game/services/api" }, a: { context: "/game/services/api" } },
      ["a", "b"],
    ],
    [
      "unknown if several build a folder above",
      { a: { context: "/game" }, b: { context: "/game" } },
      [undefined, "a", "b"],
    ],
    [
      "unknown if they build other folders",
      { a: { context: "/game/services/api2" }, b: { context: "https://x/y.git" } },
      [undefined],
    ],
  ])("is %s", (_, services, expected) => {
    expect(find(services)).toEqual(expected);
  });
});

describe("the environment of the migrations", () => {
  const merge = (more: Partial<EnvironmentParts>) =>
    migrationEnvironment({
      files: {},
      service: {},
      blocks: [],
      extra: [],
      connection,
      superuserPassword: "rootpw",
      process: { TOKEN: "t0ken" },
      ...more,
    });

  test("replaces every connection to the application's own database, and keeps the scheme", () => {
    const files = {
      DATABASE_URL: "postgresql://neon:pw@ep-1.neon.tech/neondb?sslmode=require",
      ASYNC: "postgresql+asyncpg://neon:pw@ep-1.neon.tech:5432/neondb?ssl=require",
      OLD: "postgres://other@ep-1.neon.tech/neondb",
      NEXUS: "postgresql://neon:pw@ep-1.neon.tech/nexus",
      PGHOST: "ep-1.neon.tech",
      PGPASSWORD: "pw",
      PGSSLMODE: "require",
    };
    expect(merge({ files })).toEqual({
      DATABASE_URL: URL,
      ASYNC: URL.replace("postgresql:", "postgresql+asyncpg:"),
      OLD: URL.replace("postgresql:", "postgres:"),
      NEXUS: files.NEXUS,
      PGHOST: "database",
      PGPASSWORD: "ownerpw",
    });
  });

  test("keeps the driver of the application's own URL, of the service before the .env", () => {
    const async = "postgresql+asyncpg://a:b@db/x";
    const asyncOurs = URL.replace("postgresql:", "postgresql+asyncpg:");
    expect(merge({ files: { DATABASE_URL: async } })).toEqual({ DATABASE_URL: asyncOurs });
    expect(merge({ files: { DATABASE_URL: "postgres://a@db/x" }, service: { DATABASE_URL: async } })).toEqual({
      DATABASE_URL: asyncOurs,
    });
    expect(merge({ files: { DATABASE_URL: async }, service: { DATABASE_URL: URL } })).toEqual({
      DATABASE_URL: asyncOurs,
    });
    for (const bare of ["postgres://a@db/x", "postgresql://a@db/x"])
      expect(merge({ files: { DATABASE_URL: async }, service: { DATABASE_URL: bare } })).toEqual({ DATABASE_URL: URL });
  });

  test("includes alembicEnvironment: values, references, and variables of pulumi up", () => {
    const extra = [
      "MODE=a=b",
      `HOST=${ref("DATABASE_HOST")}:${ref("DATABASE_PORT")}`,
      `KEPT=${ref("OTHER")}`,
      "TOKEN",
      "EMPTY=",
    ];
    expect(merge({ files: { MODE: "x" }, extra })).toEqual({
      MODE: "a=b",
      HOST: "database:5432",
      KEPT: ref("OTHER"),
      TOKEN: "t0ken",
      EMPTY: "",
      DATABASE_URL: URL,
    });
    expect(() => merge({ extra: ["MISSING"] })).toThrow("alembicEnvironment names MISSING, which is not set");
  });

  test("never contains the hand-over's passwords or the superuser's", () => {
    const ours = {
      DB_SUPERUSER: "postgres",
      DB_PASSWORD: "apppassword",
      NEXUS: "postgresql://app:apppw1@db/nexus",
      SIZE: "5",
    };
    const files = { DB_PASSWORD: "its own" };
    expect(merge({ files, service: ours, blocks: [ours] })).toEqual({
      DB_SUPERUSER: "postgres",
      DB_PASSWORD: "its own",
      SIZE: "5",
      DATABASE_URL: URL,
    });
    expect(merge({ files: { A: "x:rootpw@y" }, service: { B: "rootpw" } })).toEqual({ DATABASE_URL: URL });
  });
});

describe("the output of an application", () => {
  test("is shown with values that may be secrets masked, also in encoded forms", () => {
    const values = secretValues({
      JWT_SECRET: "hunter",
      NEON: "postgresql://me:p%40ss-word@host/db",
      KEY: 'two\nlong lines "quoted"',
      MODE: "development",
      PORT: "8080",
      FOLDER: "/app/data",
      ODD: "Zx9-odd value",
      DEBUG: "1",
    });
    const text = masked(
      'hunter postgresql://me:p%40ss-word@host/db p@ss-word long lines "quoted" two\\nlong lines \\"quoted\\" development 8080 /app/data Zx9-odd value Zx9-odd%20value 1',
      values,
    );
    expect(text).toBe("*** postgresql://me:***@host/db *** *** *** development 8080 /app/data *** *** 1");
  });
});
