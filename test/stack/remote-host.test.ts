/**
 * A stack whose Docker engine is on another machine, reached over SSH. The test starts its own engine in a privileged container, so it
 * runs only with REMOTE=all in the environment.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { confirmRecoveryTarget } from "../../components/backups/confirm-target.ts";
import { valuesOf } from "../../components/handover/env-values.ts";
import { makeServerCertificate } from "../../lib/certificates.ts";
import { docker } from "../../lib/docker.ts";
import { Application } from "../support/application.ts";
import { BackedUp } from "../support/backed-up.ts";
import { images } from "../support/lab.ts";
import { RemoteHost } from "../support/remote-host.ts";
import { withConnection } from "../support/session.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

/** A remote database with TLS that both machines reach at the same address, like Neon. */
class FarSource {
  readonly name = `sectorwars-test-far-${randomBytes(4).toString("hex")}`;
  private folder = "";

  /** Starts the server and returns the environment variables with its URL. */
  async start(): Promise<Record<string, string>> {
    this.folder = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
    const password = randomBytes(16).toString("hex");
    const line =
      "while [ ! -e /tls/server.key ]; do sleep 0.1; done; cp /tls/server.* /tmp/ && chmod 600 /tmp/server.key && " +
      "chown postgres /tmp/server.* && exec docker-entrypoint.sh postgres -c ssl=on -c ssl_cert_file=/tmp/server.crt -c ssl_key_file=/tmp/server.key";
    const variables = [`POSTGRES_PASSWORD=${password}`, "PGDATA=/tmp/pgdata", "POSTGRES_DB=neondb"];
    const given = variables.flatMap((variable) => ["-e", variable]);
    await docker(["run", "-d", "--name", this.name, ...given, "--entrypoint", "sh", images().databaseBase, "-c", line]);
    const host = (await docker(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", this.name])).trim();
    const { authority, certificate, key } = await makeServerCertificate([host]);
    await writeFile(join(this.folder, "authority.pem"), authority);
    await writeFile(join(this.folder, "server.crt"), certificate);
    await writeFile(join(this.folder, "server.key"), key, { mode: 0o644 });
    await docker(["cp", this.folder, `${this.name}:/tls`]);
    const address = { host, port: 5432, user: "postgres", password, database: "neondb" };
    const rows = "CREATE TABLE cargo AS SELECT i AS id, md5(i::text) AS content FROM generate_series(1, 5000) i";
    await withConnection(address, (client) => client.query(`${rows}; ALTER TABLE cargo ADD PRIMARY KEY (id)`), {
      patienceMs: 60_000,
    });
    return {
      NEON_DATABASE_URL: `postgresql://postgres:${password}@${host}/neondb?sslmode=verify-full&channel_binding=require`,
      NEON_ROOT_CERTIFICATES: join(this.folder, "authority.pem"),
    };
  }

  async end(): Promise<void> {
    await docker(["rm", "-f", "-v", this.name]).catch(() => {});
    if (this.folder) await rm(this.folder, { recursive: true, force: true });
  }
}

describe.runIf(process.env.REMOTE === "all")("with Docker on another machine", () => {
  const source = new FarSource();
  let host: RemoteHost;
  let stack: TestStack;
  let backed: BackedUp;
  let game: Application;
  let stopForwarding: (() => Promise<void>) | undefined;
  const cargo = () => backed.value("SELECT count(*)::int FROM cargo");

  beforeAll(async () => {
    // Sequential, so that afterAll can remove everything that was created before a failure.
    game = await Application.makePlain();
    host = await RemoteHost.start();
    vi.stubEnv("PATH", host.path);
    const variables = await source.start();
    const yearly = "0 3 1 1 *";
    const plans = { backupFull: yearly, backupDifferential: yearly, backupDrill: yearly, backupCompression: "lz4" };
    stack = await TestStack.make(
      {
        bootstrap: "neon",
        memory: "512",
        dockerHost: host.engine,
        alembic: game.gameserver,
        alembicImage: "generic",
        handoverFolder: game.folder,
        backups: "true",
        ...plans,
      },
      variables,
    );
    backed = new BackedUp(stack);
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await stopForwarding?.();
    await stack?.end();
    await host?.end();
    await source.end();
    await game?.end();
  });

  test("an image that is missing there and in the registries is an error that names it and the command to copy it", async () => {
    await stack.set("baseImage", "sectorwars/postgres:nowhere");
    expect(await stack.upFails()).toContain(
      `docker save sectorwars/postgres:nowhere | DOCKER_HOST=${host.engine} docker load`,
    );
    await stack.unset("baseImage");
    expect(await host.holds()).toEqual([]);
  });

  test("script/up copies images that no registry has, builds the others there, and names the command that forwards the port", async () => {
    const { code, text: said } = await run("script/up", ["--stack", stack.name], stack.env);
    expect(code).not.toBe(0);
    const base = images().databaseBase;
    if (base.startsWith("sectorwars/")) expect(said).toContain(`copying the image ${base} to ${host.engine}`);
    const command = /^.*leave it running: (ssh -N .*)$/m.exec(said)?.[1] ?? said;
    const [, , , port] = host.engine.split(/[:@]/);
    expect(command).toMatch(new RegExp(`^ssh -N -p ${port} -L (\\d+):127\\.0\\.0\\.1:\\1 root@127\\.0\\.0\\.1$`));
    expect(await host.docker("ps", "--format", "{{.Names}}")).toContain(stack.names.container);
    expect(await docker(["image", "ls", "-q", `${stack.names.image}:15`])).toBe("");
    stopForwarding = host.forward(command);
  });

  test("with the port forwarded, the stack imports, migrates and hands over", async () => {
    const { text } = await stack.up();
    expect(text).toMatch(/import: 1 tables?, 5,000 rows, .*proven equal/);
    expect(text).toMatch(new RegExp(`DOCKER_HOST=${host.engine} \\S.*compose up --wait`));
    expect((await stack.outputs()).revision).toBe("0002ships");
    const { DATABASE_URL: url = "" } = valuesOf(await game.read(".env"));
    const address = urlAddress(url.replace(/^postgresql\+\w+/, "postgresql"));
    const seen = await withConnection(address, (client) => client.query("SELECT FROM cargo"));
    expect(seen.rowCount).toBe(5000);
    await stack.up("--expect-no-changes");
  });

  test("status, psql, snapshot and restore find the engine in the stack's settings", async () => {
    expect(await backed.result("status")).toMatchObject({ healthy: true, state: expect.stringContaining("running") });
    expect((await backed.command("doctor")).text).toMatch(/ok +Port \d+ on 127\.0\.0\.1/);
    expect(await backed.succeed("psql", "--", "-Atc", "SELECT 6 * 7")).toBe("42\n");
    await backed.succeed("snapshot", "save", "before");
    expect(await backed.succeed("snapshot", "list")).toContain("before");
    await backed.succeed("backup");
    const point = await stack.as("superuser", (client) =>
      confirmRecoveryTarget(stack.name, client, { host: host.engine }),
    );
    await stack.as("owner", (client) => client.query("DELETE FROM cargo WHERE id > 5"));
    await backed.succeed("restore", "--to", point?.at ?? "");
    expect(await cargo()).toBe(5000);
    expect(await stack.leftovers()).toEqual([]);
  });

  test("destroy leaves nothing on either machine", async () => {
    await stack.succeed("destroy", "--yes", "--skip-preview", "--stack", stack.name);
    expect(await host.holds()).toEqual([]);
    expect(await stack.leftovers()).toEqual([]);
    expect((await run("docker", ["image", "ls", "-q", `${stack.names.image}:15`])).stdout).toBe("");
  });
});
