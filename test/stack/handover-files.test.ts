import { execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { assertCanHandOver, type CanHandOverArgs } from "../../components/handover/can-hand-over.ts";
import { overrideFile } from "../../components/handover/compose-paths.ts";
import { valuesOf } from "../../components/handover/env-values.ts";
import { readReplaceable, writeWhole } from "../../components/handover/files.ts";
import type { HandOverInputs } from "../../components/handover/handover.ts";
import { provider } from "../../components/handover/handover-provider.ts";
import { composeWords } from "../../lib/docker-compose.ts";
import { handOverInputs } from "../support/handover-inputs.ts";

const stack = `u${randomBytes(4).toString("hex")}`;
const NEON = "postgresql://neon:neonpw@ep-1.neon.tech/neondb";
let folder: string;
let inputs: HandOverInputs;
const env = () => join(folder, ".env");
const login = (database: string) => ({ database, user: "a", password: "secretpw" });
const inputsFor = (folder: string): HandOverInputs =>
  handOverInputs({
    stack,
    folder,
    network: "some-network",
    container: "some-container",
    logins: { main: login("x"), test: login("x_test"), further: {} },
    maxConnections: 100,
  });
const override = overrideFile(process.cwd(), stack);

beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), "sectorwars-test-")), "a game");
  await cp("test/application", folder, { recursive: true });
  vi.spyOn(console, "log").mockImplementation(() => {});
  vi.stubEnv("NEON_DATABASE_URL", "");
  inputs = inputsFor(folder);
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await rm(join(folder, ".."), { recursive: true, force: true });
  await rm(join(override, ".."), { recursive: true, force: true });
});

/** A service as `docker compose config` prints it. */
interface Service {
  image?: string;
  environment?: Record<string, string>;
  depends_on?: Record<string, { condition: string }>;
  networks?: Record<string, unknown>;
  network_mode?: string;
  links?: string[];
  external_links?: string[];
  volumes_from?: string[];
  pid?: string;
  profiles?: string[];
}

/** Program that writes a file and never finishes. */
const KILLED = `
  const { open } = require("node:fs/promises");
  const { writeWhole } = require("./components/handover/files.ts");
  open(__filename.replace("[eval]", "package.json")).then((handle) => {
    Object.getPrototypeOf(handle).sync = () => new Promise(() => setInterval(() => {}, 1000));
    writeWhole(process.argv[1], "SECRET=1");
  });`;

/** Returns the services that docker compose finds in the application's folder, in these profiles or in all. */
const servicesOf = async (...profiles: string[]): Promise<Record<string, Service>> => {
  const [program, ...first] = composeWords();
  const chosen = (profiles.length > 0 ? profiles : ["*"]).flatMap((profile) => ["--profile", profile]);
  const { COMPOSE_FILE: _file, DATABASE_URL: _url, ...environment } = process.env;
  const { stdout } = await promisify(execFile)(program, [...first, ...chosen, "config", "--format", "json"], {
    cwd: folder,
    env: { SERVICE_IMAGE: "some-image", ...environment },
  });
  return JSON.parse(stdout).services;
};

const create = async () => (await provider.create(inputs)).outs;
const refusal = async (attempt: () => Promise<unknown> = create) => {
  const before = await readdir(folder);
  const message = await attempt().then(
    () => "nothing was wrong",
    (error: Error) => error.message,
  );
  // No .env file, not even a partial one, and no Compose file.
  expect(await readdir(folder)).toEqual(before);
  expect(existsSync(override)).toBe(false);
  expect(message).toContain("Nothing was written");
  expect(message).not.toContain("secretpw");
  return message;
};

describe("the hand-over's files", () => {
  test("are written on a path with spaces, and are removed without a trace", async () => {
    const before = (await readdir(folder)).sort();
    const outs = await create();
    expect((await stat(env())).mode & 0o777).toBe(0o600);
    const { COMPOSE_FILE } = valuesOf(await readFile(env(), "utf8"));
    expect(COMPOSE_FILE).toBe(`${folder}/docker-compose.yml:${override}`);
    expect((await stat(override)).mode & 0o777).toBe(0o600);
    expect((await stat(join(override, ".."))).mode & 0o077).toBe(0);
    await provider.delete?.("id", outs);
    expect((await readdir(folder)).sort()).toEqual(before);
    expect(existsSync(override)).toBe(false);
  });

  test("work together with the application's own override, and with its own COMPOSE_FILE", async () => {
    await writeFile(join(folder, "compose.override.yml"), "services: {gameserver: {environment: {A: b}}}");
    await create();
    expect(valuesOf(await readFile(env(), "utf8")).COMPOSE_FILE).toBe(
      `${folder}/docker-compose.yml:${folder}/compose.override.yml:${override}`,
    );
    await rm(env());
    await writeFile(env(), "COMPOSE_FILE=docker-compose.yml\n");
    await create();
    expect(valuesOf(await readFile(env(), "utf8")).COMPOSE_FILE).toBe(`${folder}/docker-compose.yml:${override}`);
  });

  test("need no Compose file", async () => {
    await rm(join(folder, "docker-compose.yml"));
    await create();
    expect(valuesOf(await readFile(env(), "utf8"))).not.toHaveProperty("COMPOSE_FILE");
    expect(existsSync(override)).toBe(false);
  });

  test("move with the setting, and the former file is restored", async () => {
    await writeFile(env(), "MINE=1\n", { mode: 0o644 });
    await chmod(env(), 0o644);
    const outs = await create();
    await provider.update?.("id", outs, { ...inputs, file: ".env.local" });
    expect(await readFile(env(), "utf8")).toBe("MINE=1\n");
    expect((await stat(env())).mode & 0o777).toBe(0o644);
    expect(await readFile(join(folder, ".env.local"), "utf8")).toContain("SQLALCHEMY_POOL_SIZE=5");
    expect(existsSync(override)).toBe(true);
  });

  test("leave no temporary folders of docker compose, and remove those of a killed run", async () => {
    const asked = join(override, "..");
    const left = join(asked, ".resolve-killed");
    await mkdir(left, { recursive: true });
    await utimes(left, 0, 0);
    await create();
    expect(existsSync(left)).toBe(false);
    inputs.service = "none";
    await writeFile(join(folder, "docker-compose.yml"), "services: {a: {image: 'postgres:15'}}");
    await expect(create()).rejects.toThrow("pulumi config set composeService a");
    expect((await readdir(asked)).filter((name) => name.startsWith(".resolve-"))).toEqual([]);
  });

  test("are not overwritten if another program changes them between reading and writing", async () => {
    await writeFile(env(), "A=1\n");
    const found = await readReplaceable(env());
    await writeFile(env(), "A=2\n");
    await expect(writeWhole(env(), "mine", { found })).rejects.toThrow("was changed by another program");
    expect(await readFile(env(), "utf8")).toBe("A=2\n");
    expect(await readdir(folder)).not.toContainEqual(expect.stringContaining(".sectorwars-"));
  });

  test("are complete or missing after a kill; git ignores the temporary folder, and a later write removes it", async () => {
    execFileSync("git", ["init", "--quiet", folder]);
    await writeFile(join(folder, ".gitignore"), ".env\n");
    await writeFile(env(), "A=1\n");
    execFileSync("git", ["-C", folder, "add", "."]);
    const before = execFileSync("git", ["-C", folder, "status", "--porcelain"]).toString();
    const left = async () => (await readdir(folder)).filter((name) => name.startsWith(".sectorwars-"));
    const child = spawn("node", ["--eval", KILLED, env()]);
    try {
      await vi.waitFor(async () => {
        const [temporary = ""] = await left();
        expect((await stat(join(folder, temporary, "whole"))).size).toBeGreaterThan(0);
      });
    } finally {
      child.kill("SIGKILL");
      await new Promise((resolve) => child.once("close", resolve));
    }
    const [temporary = ""] = await left();
    expect((await stat(join(folder, temporary, "whole"))).mode & 0o077).toBe(0);
    expect(await readFile(env(), "utf8")).toBe("A=1\n");
    expect(execFileSync("git", ["-C", folder, "status", "--porcelain"]).toString()).toBe(before);
    await create();
    // A young folder may belong to a running program.
    expect(await left()).toEqual([temporary]);
    await utimes(join(folder, temporary), 0, 0);
    await provider.update?.("id", await create(), inputs);
    expect(await left()).toEqual([]);
  });
});

describe("the hand-over refuses", () => {
  test("a folder that is missing, or is a file", async () => {
    const right = inputs.folder;
    inputs.folder = join(right, "no such");
    expect(await refusal()).toContain(`application is "${right}/no such", which does not exist`);
    inputs.folder = join(right, "docker-compose.yml");
    expect(await refusal()).toContain("which is not a folder");
  });

  test("an .env that is a folder, a symbolic link, or read-only", async () => {
    await mkdir(env());
    expect(await refusal()).toContain(`${env()} is a folder`);
    await rm(env(), { recursive: true });
    await symlink("docker-compose.yml", env());
    expect(await refusal()).toContain(`${env()} is a link`);
    await rm(env());
    await writeFile(env(), "A=1\n");
    await chmod(env(), 0o444);
    expect(await refusal()).toContain(`${env()} is read-only`);
    expect(await readFile(env(), "utf8")).toBe("A=1\n");
  });

  test("an .env that git does not ignore", async () => {
    execFileSync("git", ["init", "--quiet", folder]);
    expect(await refusal()).toContain("would get passwords, but git does not ignore it. Add it to .gitignore");
    await writeFile(join(folder, ".gitignore"), ".env\n");
    await create();
  });

  test("an .env that git ignores but tracks", async () => {
    execFileSync("git", ["init", "--quiet", folder]);
    await writeFile(env(), "A=1\n");
    execFileSync("git", ["-C", folder, "add", "--force", ".env"]);
    await writeFile(join(folder, ".gitignore"), ".env\n");
    expect(await refusal()).toContain("git rm --cached");
  });

  test("before the update creates anything", async () => {
    const settings = { database: "x", databases: { names: ["nexus"] }, server: inputs, pooler: undefined };
    const args = { ...settings, stack: inputs.stack, handover: inputs } as unknown as CanHandOverArgs;
    const check = () =>
      assertCanHandOver(args).then(
        () => undefined,
        ({ message }: Error) => message,
      );
    execFileSync("git", ["init", "--quiet", folder]);
    expect(await check()).toContain("would get passwords, but git does not ignore it");
    await writeFile(join(folder, ".gitignore"), ".env\n");
    expect(await check()).toBeUndefined();
    await writeFile(env(), "# >>> sectorwars-database: stack other\n# <<< sectorwars-database\n");
    expect(await check()).toContain(
      `${env()} contains the block of the stack other. Only one stack can hand over to a file: remove the other block (pulumi config rm ` +
        `handoverFolder --stack other, then pulumi up --stack other), or use another file`,
    );
    await rm(env());
    const outs = await create();
    await writeFile(join(folder, "docker-compose.yml"), "services: {web: {image: a}}");
    expect(await check()).toContain("has no service that uses a database");
    await expect(provider.diff?.("id", outs, inputs)).rejects.toThrow("has no service that uses a database");
  });

  test("an .env with a damaged block, or another stack's", async () => {
    await writeFile(env(), "A=1\n# >>> sectorwars-database: stack other\n");
    expect(await refusal()).toContain(`${env()} has a damaged block`);
    await writeFile(env(), "# >>> sectorwars-database: stack other\n# <<< sectorwars-database\n");
    expect(await refusal()).toContain("contains the block of the stack other");
  });

  test("an .env that is not UTF-8, which could not be kept unchanged", async () => {
    await writeFile(env(), Buffer.from([0x41, 0x3d, 0xe4, 0x0a]));
    expect(await refusal()).toContain(`${env()} is not UTF-8`);
  });

  test("a line that docker compose cannot read, by its number, not its content", async () => {
    await writeFile(env(), "A=1\nB='secretpw\n");
    expect(await refusal()).toContain(`docker compose cannot read ${env()}: line 3, or a quote before it`);
  });

  test.each([
    ["services: {web: {image: a}}", "has no service that uses a database"],
    ["services: [", "yaml: line 1"],
    ["", "empty compose file"],
    ["services: {db: {image: 'postgres:15'}}", "pulumi config set composeService db"],
    ["services: {a: {image: a, depends_on: [database], ports: ['secretpw:x']}}", "invalid containerPort: x"],
  ])("the Compose file %j", async (text, message) => {
    await writeFile(join(folder, "docker-compose.yml"), text);
    expect(await refusal()).toContain(message);
  });

  test("a COMPOSE_FILE that names a missing file", async () => {
    await writeFile(env(), "COMPOSE_FILE=gone.yml\n");
    expect(await refusal()).toContain(`COMPOSE_FILE names ${folder}/gone.yml, which does not exist`);
    inputs.composeFiles = ["none.yml"];
    expect(await refusal()).toContain(`composeFiles names ${folder}/none.yml, which does not exist`);
  });
});

test("a damaged block is not removed; the error names the file", async () => {
  const outs = await create();
  const text = await readFile(env(), "utf8");
  await writeFile(env(), text.replace(/# <<<.*\n/, ""));
  await expect(provider.delete?.("id", outs)).rejects.toThrow(`${env()} has a damaged block`);
});

describe("handoverTarget neon", () => {
  beforeEach(() => {
    inputs.target = "neon";
  });

  test("needs NEON_DATABASE_URL or a URL in the .env file", async () => {
    expect(await refusal()).toContain("handoverTarget is neon, but NEON_DATABASE_URL is not set");
  });

  test("writes the environment's URL, keeps it later, and never puts it into the state", async () => {
    vi.stubEnv("NEON_DATABASE_URL", `${NEON}?sslmode=require`);
    const outs = await create();
    expect(valuesOf(await readFile(env(), "utf8")).DATABASE_URL).toBe(NEON);
    expect((await servicesOf()).gameserver?.environment).toMatchObject({ DATABASE_URL: NEON });
    expect(JSON.stringify(outs)).not.toContain("neonpw");
    vi.stubEnv("NEON_DATABASE_URL", "");
    await provider.update?.("id", outs, inputs);
    expect(valuesOf(await readFile(env(), "utf8")).DATABASE_URL).toBe(NEON);
  });

  test("restores the URL that the file had, byte for byte, and gives it to the services", async () => {
    const own = `postgresql://neon:neonpw@ep-1.neon.tech/neondb?sslmode=require`;
    const before = `A=1\r\n  export DATABASE_URL = "${own}" # the team's\r\nDB_HOST=database\nLAST=1`;
    await writeFile(env(), before);
    vi.stubEnv("NEON_DATABASE_URL", "postgresql://other:neonpw@elsewhere.neon.tech/neondb");
    inputs.target = "local";
    const local = await create();
    expect(valuesOf(await readFile(env(), "utf8")).DATABASE_URL).toContain("@localhost:15500/x");
    expect((await servicesOf()).gameserver?.environment).toMatchObject({
      DATABASE_URL: "postgresql://a:secretpw@database:5432/x",
    });
    inputs.target = "neon";
    const outs = (await provider.update?.("id", local, inputs))?.outs;
    const text = await readFile(env(), "utf8");
    expect(text.endsWith(`# <<< sectorwars-database\n${before}`)).toBe(true);
    expect(valuesOf(text).DATABASE_URL).toBe(own);
    const services = await servicesOf();
    expect(services.gameserver?.environment).toMatchObject({ DATABASE_URL: own });
    expect(services["region-manager"]?.environment).not.toMatchObject({ DB_SUPERUSER_PASSWORD: "superpw" });
    expect(Object.keys(services).sort()).toEqual(["admin-ui", "gameserver", "player-client", "region-manager"]);
    expect(JSON.stringify(outs)).not.toContain("neonpw");
    await provider.delete?.("id", outs);
    expect(await readFile(env(), "utf8")).toBe(before);
  });
});

describe("a manual change", () => {
  test("of the .env file is found, and the next update writes the file again", async () => {
    const outs = await create();
    expect((await provider.diff?.("id", outs, inputs))?.changes).toBe(false);
    expect((await provider.read?.("id", outs))?.props).toEqual(outs);
    await writeFile(env(), "");
    const found = await provider.read?.("id", outs);
    expect((await provider.diff?.("id", found?.props, inputs))?.changes).toBe(true);
  });

  test("of the application's Compose file too", async () => {
    const outs = await create();
    await writeFile(join(folder, "docker-compose.yml"), "services: {api: {image: a, environment: [DATABASE_URL]}}");
    expect((await provider.diff?.("id", outs, inputs))?.changes).toBe(true);
  });
});
