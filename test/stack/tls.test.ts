/** A server with TLS: who can connect, what the clients verify, renewal in the running server, and the hand-over. */
import { readFile, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { valuesOf } from "../../components/handover/env-values.ts";
import { makeServerCertificate } from "../../lib/certificates.ts";
import { docker } from "../../lib/docker.ts";
import { composeWords } from "../../lib/docker-compose.ts";
import { authorityPath, readServedCertificate } from "../../lib/server-tls.ts";
import { exportResources } from "../../lib/stack.ts";
import { Application } from "../support/application.ts";
import { connect, withConnection } from "../support/session.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

let stack: TestStack;
let game: Application;

/** An image with SQLAlchemy, psycopg2 and asyncpg: the one that the migrations run in. */
const clients = () => `sectorwars-migrations-${stack.name}:latest`;

/** Connects through both drivers with the bare URL in DATABASE_URL, and prints what each sees: `psycopg2 TLSv1.3`. */
const CLIENT = `
import asyncio, os
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
url = os.environ["DATABASE_URL"]
asked = text("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
with create_engine(url).connect() as c:
    print("psycopg2", c.execute(asked).scalar())
async def main():
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.connect() as c:
        print("asyncpg", (await c.execute(asked)).scalar())
    await engine.dispose()
asyncio.run(main())
`;

const COMPOSE = (image: string) => `
services:
  database:
    image: postgres:15
  game:
    image: ${image}
    pull_policy: never
    entrypoint: ["python3", "-c"]
    command: [${JSON.stringify(CLIENT)}]
    depends_on: [database]
  web:
    image: ${image}
    pull_policy: never
    entrypoint: ["true"]
`;

const containerId = () => docker(["inspect", "-f", "{{.Id}}", stack.names.container]);
const superuser = async () => urlAddress((await stack.outputs()).urls.superuser);
const served = async () => {
  const { host, port } = await superuser();
  return readServedCertificate(host, port);
};
/** Runs the client in the stack's network. */
async function runClient(authority: string, url: string) {
  const mount = `${resolve(authority)}:/ca.crt:ro`;
  const variables = { DATABASE_URL: url, PGSSLMODE: "verify-full", PGSSLROOTCERT: "/ca.crt" };
  const environment = Object.entries(variables).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
  const command = ["--entrypoint", "python3", clients(), "-c", CLIENT];
  return run("docker", ["run", "--rm", "--network", stack.names.network, "-v", mount, ...environment, ...command]);
}
const inNetwork = async () => (await stack.db("url", "--in-network")).stdout.trim();

beforeAll(async () => {
  game = await Application.makePlain();
  await game.checkIn("");
  stack = await TestStack.make({
    bootstrap: "empty",
    memory: "512",
    tls: "true",
    alembic: game.gameserver,
    handoverFolder: game.folder,
    composeNetwork: "default",
  });
  await game.write("docker-compose.yml", COMPOSE(clients()));
  await stack.up();
});
afterAll(async () => {
  await run("sh", ["-c", 'cd "$0" && exec "$@"', game.folder, ...composeWords(), "down", "--timeout", "0"]);
  await stack.end();
  await game.end();
});

describe("the server", () => {
  test("refuses a connection without TLS", async () => {
    const { tls: _, ...plain } = await superuser();
    await expect(withConnection(plain, async () => {})).rejects.toThrow(/no pg_hba.conf entry.*no encryption/);
  });

  test("refuses TLS 1.1, and a client that trusts another authority or expects another name", async () => {
    const address = await superuser();
    const { authority } = (await stack.outputs()) as unknown as { authority: string };
    const attempt = (tls: typeof address.tls) => withConnection({ ...address, tls }, async () => {});
    const other = await makeServerCertificate(["localhost"]);
    await expect(attempt({ ...address.tls, ca: other.authority })).rejects.toThrow(/certificate/);
    await expect(attempt({ ca: authority, checkServerIdentity: () => new Error("another name") })).rejects.toThrow(
      "another name",
    );
    const old = { ...address.tls, minVersion: "TLSv1.1", maxVersion: "TLSv1.1" } as const;
    await expect(attempt(old)).rejects.toThrow(/protocol|alert|unsupported/i);
    await attempt(address.tls);
  });

  test("has its key in a file that only its own user can read, and nowhere else in clear text", async () => {
    const inside = ["exec", stack.names.container];
    expect((await docker([...inside, "stat", "-c", "%a %U", "/etc/sectorwars-tls/server.pem"])).trim()).toBe(
      "600 postgres",
    );
    const pair = await docker([...inside, "cat", "/etc/sectorwars-tls/server.pem"]);
    const secret = /KEY-----\n(.{40})/.exec(pair)?.[1] ?? "";
    expect(secret).toHaveLength(40);
    const inspected = await docker(["inspect", stack.names.container]);
    const logs = await run("docker", ["logs", stack.names.container]);
    for (const text of [inspected, logs.text, await stack.stateText()]) {
      expect(text).not.toContain(secret);
      expect(text).not.toContain("PRIVATE KEY");
    }
  });

  test("needs no change in the next update", async () => {
    await stack.up("--expect-no-changes");
  });
});

describe("clients", () => {
  test("SQLAlchemy with psycopg2 and asyncpg verify the server by two variables, with one bare URL", async () => {
    const { text, code } = await runClient(authorityPath(stack.name), await inNetwork());
    expect(text).toContain("psycopg2 TLSv1.3\nasyncpg TLSv1.3");
    expect(code).toBe(0);
  });

  test("both refuse a server of another authority, and one whose name the certificate lacks", async () => {
    const other = join(stack.stateFolder, "other.crt");
    await writeFile(other, (await makeServerCertificate(["localhost"])).authority);
    expect((await runClient(other, await inNetwork())).text).toContain("certificate verify failed");
    const format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    const address = (await docker(["inspect", "-f", format, stack.names.container])).trim();
    const { text } = await runClient(
      authorityPath(stack.name),
      (await inNetwork()).replace("@database:", `@${address}:`),
    );
    expect(text).toMatch(/does not match host name|hostname mismatch|IP address mismatch/i);
  });

  test("the project's own commands connect: status, doctor, psql, url, snapshots", async () => {
    const status = JSON.parse((await stack.db("status", "--json")).stdout);
    expect(status).toMatchObject({ healthy: true, tls: { protocol: "TLSv1.3", serial: (await served())?.serial } });
    expect((await stack.db("status")).stdout).toMatch(
      / {2}tls +TLSv1.3, certificate valid until 20\d\d-.* \(824 days\)/,
    );
    const doctor = await stack.db("doctor");
    expect(doctor.stdout).toContain("ok     Certificate: TLSv1.3");
    const asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    expect((await stack.db("psql", "-Atc", asked)).stdout.trim()).toBe("t");
    const url = JSON.parse((await stack.db("url", "--json")).stdout);
    expect(url).toMatchObject({ PGSSLMODE: "verify-full", PGSSLROOTCERT: resolve(authorityPath(stack.name)) });
    expect((await stack.db("snapshot", "save", "encrypted")).code).toBe(0);
    expect((await stack.db("snapshot", "restore", "encrypted", "--yes")).code).toBe(0);
  });
});

describe("the hand-over", () => {
  test("writes the variables and the authority for programs on this machine", async () => {
    const values = valuesOf(await game.read(".env"));
    const file = join(game.folder, ".sectorwars/ca.crt");
    expect(values).toMatchObject({ PGSSLMODE: "verify-full", PGSSLROOTCERT: file });
    expect(values.DATABASE_URL).not.toContain("?");
    expect((await stat(file)).mode & 0o777).toBe(0o644);
    expect((await run("git", ["-C", game.folder, "status", "--porcelain", ".sectorwars"])).text).toBe("");
    expect(await readFile(file, "utf8")).toBe(await readFile(authorityPath(stack.name), "utf8"));
  });

  test("gives the services the file at a fixed path, so that their drivers verify the server", async () => {
    const compose = ["-c", 'cd "$0" && exec "$@"', game.folder, ...composeWords()];
    const { text } = await run("sh", [...compose, "run", "--rm", "-T", "game"]);
    expect(text).toContain("psycopg2 TLSv1.3\nasyncpg TLSv1.3");
  });
});

/** Runs work while a session is open, and checks that the session and the container survive it. Returns the new certificate. */
async function whileConnected(work: () => Promise<void>) {
  const container = await containerId();
  const session: pg.Client = await connect(await superuser());
  const { rows } = await session.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  await work();
  const after = await session.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  await session.end();
  expect(after.rows).toEqual(rows);
  expect(await containerId()).toBe(container);
  return served();
}

describe("renewal", () => {
  test("./db certificates rotate gives new connections a new certificate, and open ones survive", async () => {
    const before = await served();
    const after = await whileConnected(async () => {
      const { code, text } = await stack.db("certificates", "rotate");
      expect(text).toContain("The server presents a new certificate");
      expect(code).toBe(0);
    });
    expect(after?.serial).not.toBe(before?.serial);
    await stack.up("--expect-no-changes");
    await stack.as("app", (client) => client.query("SELECT 1"));
  });

  test("doctor and status report a certificate with fewer than 30 days, and the next update renews it", async () => {
    await stack.set("certificateDays", "20");
    await stack.db("certificates", "rotate");
    const short = await served();
    const remedy = `./db certificates rotate --stack ${stack.name}`;
    const doctor = await stack.db("doctor");
    expect(doctor.stdout).toMatch(/WRONG {2}Certificate: the certificate expires in \d\d days/);
    expect(doctor.stdout).toContain(remedy);
    const status = await stack.db("status");
    expect(status.stdout).toMatch(/ {2}TLS +the certificate expires in/);
    expect(status.code).toBe(1);
    await stack.unset("certificateDays");
    const renewed = await whileConnected(async () => void (await stack.up()));
    expect(renewed?.serial).not.toBe(short?.serial);
    expect((await stack.db("certificates", "show")).code).toBe(0);
  });

  test("another container begins with the same certificate as the former one", async () => {
    const [before, container] = [await served(), await containerId()];
    await stack.set("memory", "600");
    await stack.up();
    expect(await containerId()).not.toBe(container);
    expect((await served())?.serial).toBe(before?.serial);
  });

  test("the state knows the certificate in the server", async () => {
    process.env.PULUMI_BACKEND_URL = stack.env.PULUMI_BACKEND_URL;
    try {
      const resources = await exportResources(stack.name);
      const found = resources.find(({ type }) => type === "pulumi-nodejs:dynamic/server:Certificate");
      expect(found?.outputs?.serial).toBe((await served())?.serial);
    } finally {
      delete process.env.PULUMI_BACKEND_URL;
    }
  });
});

describe("other settings", () => {
  test("limits of the app role are settings of the role, and repaired if they were changed by hand", async () => {
    await stack.set("statementTimeout", "1");
    await stack.up();
    await stack.as("superuser", (client) => client.query("ALTER ROLE sectorwars_app RESET ALL"));
    await stack.up();
    await expect(stack.as("app", (client) => client.query("SELECT pg_sleep(3)"))).rejects.toThrow("statement timeout");
    await stack.as("owner", (client) => client.query("SELECT pg_sleep(1.2)"));
    await stack.succeed("refresh", "--yes", "--skip-preview", "--stack", stack.name);
    await stack.up("--expect-no-changes");
    await stack.unset("statementTimeout");
    await stack.up();
    await stack.as("app", (client) => client.query("SELECT pg_sleep(1.2)"));
  });

  test("the port can be published on other addresses, with more names in the certificate", async () => {
    await stack.set("listen", "0.0.0.0");
    await stack.up();
    expect(await docker(["port", stack.names.container])).toMatch(/0\.0\.0\.0:\d+/);
    await stack.as("app", (client) => client.query("SELECT 1"));
    await stack.set("tls", "false");
    const { text, code } = await stack.pulumi("preview", "--stack", stack.name);
    expect(text).toContain(`listen is "0.0.0.0" and tls is "false"`);
    expect(code).not.toBe(0);
    await stack.unset("tls");
    await stack.unset("listen");
  });

  test("production refuses an empty passphrase", async () => {
    await stack.set("profile", "production");
    const { text, code } = await stack.pulumi("preview", "--stack", stack.name);
    expect(text).toContain("the passphrase of the stack is empty");
    expect(code).not.toBe(0);
    await stack.unset("profile");
  });

  test("TLS can be switched off again, and the hand-over removes its traces", async () => {
    await stack.up();
    const { tls: _, ...plain } = await superuser();
    await withConnection(plain, async (client) => {
      expect((await client.query("SHOW ssl")).rows[0].ssl).toBe("off");
    });
    expect(await game.read(".env")).not.toContain("PGSSL");
    await expect(stat(join(game.folder, ".sectorwars"))).rejects.toThrow("ENOENT");
    await stack.up("--expect-no-changes");
  });
});
