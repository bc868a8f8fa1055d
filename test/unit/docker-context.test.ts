import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeServerCertificate } from "../../lib/certificates.ts";
import { contextEndpoint } from "../../lib/docker-context.ts";

const SOCKET = "unix:///home/me/.colima/default/docker.sock";

/** The folder in which the docker command stores its contexts in this test. */
let folder: string;
let environment: NodeJS.ProcessEnv;
const docker = (...args: string[]) => execFileSync("docker", args, { env: environment, stdio: "pipe" });

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sectorwars-context-"));
  environment = { PATH: process.env.PATH, HOME: folder, DOCKER_CONFIG: folder };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Whether the docker command is installed. It needs no engine for its contexts. */
const hasDocker = (() => {
  try {
    execFileSync("docker", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();

describe.runIf(hasDocker)("the engine for Pulumi's provider", () => {
  test("is that of the current context", () => {
    docker("context", "create", "colima", "--docker", `host=${SOCKET}`);
    expect(contextEndpoint(environment)).toBeUndefined();
    docker("context", "use", "colima");
    expect(contextEndpoint(environment)).toBe(SOCKET);
    docker("context", "use", "default");
    expect(contextEndpoint(environment)).toBeUndefined();
  });

  test("is that of DOCKER_HOST, else of DOCKER_CONTEXT, else of the current context, as for the docker command", () => {
    docker("context", "create", "colima", "--docker", `host=${SOCKET}`);
    docker("context", "create", "box", "--docker", "host=ssh://me@box");
    docker("context", "use", "colima");
    expect(contextEndpoint({ ...environment, DOCKER_CONTEXT: "box" })).toBe("ssh://me@box");
    expect(contextEndpoint({ ...environment, DOCKER_CONTEXT: "default" })).toBeUndefined();
    // The provider reads DOCKER_HOST itself.
    expect(
      contextEndpoint({ ...environment, DOCKER_CONTEXT: "box", DOCKER_HOST: "unix:///other.sock" }),
    ).toBeUndefined();
  });

  test("cannot be that of a context with TLS, and the error names the variables to set instead", async () => {
    const { authority, certificate, key } = await makeServerCertificate(["far"]);
    for (const [file, text] of Object.entries({ ca: authority, cert: certificate, key })) {
      writeFileSync(join(folder, `${file}.pem`), text);
    }
    const files = ["ca", "cert", "key"].map((part) => `${part}=${join(folder, `${part}.pem`)}`).join(",");
    docker("context", "create", "far", "--docker", `host=tcp://far:2376,${files}`);
    const [hash] = readdirSync(join(folder, "contexts/tls"));
    expect(() => contextEndpoint({ ...environment, DOCKER_CONTEXT: "far" })).toThrow(
      "Docker's context far uses TLS, which Pulumi's provider reads only from the environment. Run: export DOCKER_HOST=tcp://far:2376 " +
        `DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH='${join(folder, "contexts/tls", hash ?? "", "docker")}'`,
    );
  });

  test("is an error with a remedy if the context does not exist", () => {
    expect(() => contextEndpoint({ ...environment, DOCKER_CONTEXT: "gone" })).toThrow(
      /^Docker's context gone cannot be read \(.*gone.*\)\. Select another one: docker context use default$/s,
    );
  });
});

test("the docker command is not started to find the default engine", () => {
  const path = join(folder, "nothing");
  mkdirSync(path);
  expect(contextEndpoint({ ...environment, PATH: path })).toBeUndefined();
  writeFileSync(join(folder, "config.json"), '{ "auths": {} }');
  expect(contextEndpoint({ ...environment, PATH: path })).toBeUndefined();
});
