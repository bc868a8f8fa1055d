import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { directAddress } from "../../components/import/session/direct.ts";
import { startSample } from "../../components/import/source/sample.ts";
import type { ServerReadyInputs } from "../../components/server/database-server.ts";
import { whyUnreached } from "../../components/server/readiness.ts";
import { forwardCommand, isRemoteEngine } from "../../lib/docker.ts";
import { dockerHostOf } from "../../lib/stack.ts";

beforeEach(() => void vi.stubEnv("DOCKER_HOST", undefined));
afterEach(() => void vi.unstubAllEnvs());

test.each([
  ["ssh://me@box", true],
  ["tcp://10.0.0.7:2376", true],
  ["unix:///var/run/docker.sock", false],
  ["npipe:////./pipe/docker_engine", false],
  [undefined, false],
])("an engine at %s is on another machine: %s, also with DOCKER_HOST", (host, isRemote) => {
  expect(isRemoteEngine(host)).toBe(isRemote);
  vi.stubEnv("DOCKER_HOST", host);
  expect(isRemoteEngine(undefined)).toBe(isRemote);
});

test.each([
  ["ssh://me@box", "ssh -N -L 5433:127.0.0.1:5433 me@box"],
  ["ssh://box", "ssh -N -L 5433:127.0.0.1:5433 box"],
  ["ssh://me@box:2222", "ssh -N -p 2222 -L 5433:127.0.0.1:5433 me@box"],
  ["ssh://me@box/var/run/other.sock", "ssh -N -L 5433:127.0.0.1:5433 me@box"],
  ["ssh://me@[2001:db8::7]:2222", "ssh -N -p 2222 -L 5433:127.0.0.1:5433 me@2001:db8::7"],
  ["tcp://10.0.0.7:2376", "ssh -N -L 5433:127.0.0.1:5433 10.0.0.7"],
])("the port of a server on %s is forwarded by: %s", (host, command) => {
  expect(forwardCommand(5433, host)).toBe(command);
  vi.stubEnv("DOCKER_HOST", host);
  expect(forwardCommand(5433, undefined)).toBe(command);
});

describe("a server that cannot be reached", () => {
  const inputs: ServerReadyInputs = {
    container: "sectorwars-dev-database",
    containerId: "1",
    host: "127.0.0.1",
    port: 5433,
    database: "game",
    password: "superuserpw",
    passwordVersion: 1,
    dockerHost: "ssh://me@box",
  };
  const state = { status: "running", health: "healthy", exitCode: 0, restarts: 0, oomKilled: false };

  test("lacks a forwarded port if it is healthy on another machine", () => {
    expect(whyUnreached(inputs, state, "ECONNREFUSED")?.message).toBe(
      "The database server sectorwars-dev-database is healthy on ssh://me@box, but 127.0.0.1:5433 on this machine does not lead to it. " +
        "Forward the port, in another terminal, and leave it running: ssh -N -L 5433:127.0.0.1:5433 me@box\nThen run pulumi up again.",
    );
  });

  test("is another server if it refuses the password that was just set", () => {
    const { message = "" } = whyUnreached(inputs, state, "28P01") ?? {};
    expect(message).toContain("another server answers at 127.0.0.1:5433 on this machine");
    expect(message).toContain("pulumi config set port 5434");
    expect(message).not.toContain("superuserpw");
  });

  test("is waited for while it starts, and if the engine is on this machine", () => {
    expect(whyUnreached(inputs, { ...state, health: "starting" }, "ECONNREFUSED")).toBeUndefined();
    expect(whyUnreached(inputs, undefined, "ECONNREFUSED")).toBeUndefined();
    expect(whyUnreached(inputs, state, "ECONNRESET")).toBeUndefined();
    expect(whyUnreached({ ...inputs, dockerHost: undefined }, state, "ECONNREFUSED")).toBeUndefined();
  });
});

test("directAddress does not ask the engine of another machine for a container's address", async () => {
  const published = { host: "127.0.0.1", port: 1, database: "game", user: "postgres", password: "superuserpw" };
  // This engine does not answer, so a request would exceed the test's timeout.
  expect(await directAddress("any", published, "tcp://192.0.2.1:2375")).toBe(published);
}, 1000);

describe("the sample source", () => {
  const options = { stack: "dev", image: "postgres:15", network: "none" };

  test.each(["ssh://me@box", "ssh://127.0.0.1:2222", "tcp://10.0.0.7:2376"])(
    "is refused on another machine before anything is created: %s",
    async (dockerHost) => {
      await expect(startSample({ ...options, dockerHost })).rejects.toThrow(
        `The sample source needs a Docker engine on this machine, and the stack's engine is ${dockerHost}. Choose another source`,
      );
    },
  );

  test("is not refused on an engine that listens on this machine", async () => {
    // Nothing listens on this port, so Docker reports the error.
    await expect(startSample({ ...options, dockerHost: "tcp://127.0.0.1:1" })).rejects.toThrow("docker create");
  });
});

describe("the engine that a stack's settings name", () => {
  let folder: string;
  let before: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "sectorwars-settings-"));
    before = process.cwd();
    process.chdir(folder);
  });
  afterEach(() => {
    process.chdir(before);
    rmSync(folder, { recursive: true, force: true });
  });
  const write = (text: string) => writeFileSync("Pulumi.dev.yaml", text);

  test("is read from the stack's file, also if the stack's name is fully qualified", async () => {
    write("config:\n  sectorwars-database:dockerHost: ssh://me@box\n  sectorwars-database:port: 5434\n");
    expect(await dockerHostOf("dev")).toBe("ssh://me@box");
    expect(await dockerHostOf("organization/sectorwars-database/dev")).toBe("ssh://me@box");
    expect(await dockerHostOf("other")).toBeUndefined();
  });

  test.each(["", "config: {}", "config:\n  sectorwars-database:dockerHost: auto", "encryptionsalt: v1"])(
    "is not set in: %s",
    async (text) => {
      write(text);
      expect(await dockerHostOf("dev")).toBeUndefined();
    },
  );

  test("is an error in a file that is not YAML, so that no command uses the wrong engine", async () => {
    write("config: [");
    await expect(dockerHostOf("dev")).rejects.toThrow("Pulumi.dev.yaml cannot be read");
  });
});
