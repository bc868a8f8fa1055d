/** How script/bootstrap obtains images from registries that answer, refuse, hang or are gone; and which tools it needs. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { makePath } from "../support/path.ts";

/** Defines the functions of script/bootstrap without running it. */
const BOOTSTRAP = 'eval "$(sed "/^wants_newer=no/,\\$d" script/bootstrap)"';
/** Seconds that script/bootstrap waits for a registry in these tests. */
const PATIENCE = 3;

const digestOf = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/** Makes an image with one empty layer, as a registry serves it (OCI distribution specification). */
function emptyImage() {
  const tar = Buffer.alloc(1024);
  const layer = gzipSync(tar);
  const rootfs = { type: "layers", diff_ids: [digestOf(tar)] };
  const platform = { architecture: process.arch === "x64" ? "amd64" : process.arch, os: "linux" };
  const config = Buffer.from(JSON.stringify({ ...platform, config: {}, rootfs }));
  const type = "application/vnd.docker.distribution.manifest.v2+json";
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: type,
      config: {
        mediaType: "application/vnd.docker.container.image.v1+json",
        size: config.length,
        digest: digestOf(config),
      },
      layers: [
        {
          mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip",
          size: layer.length,
          digest: digestOf(layer),
        },
      ],
    }),
  );
  return { type, manifest, blobs: new Map([config, layer].map((blob) => [digestOf(blob), blob])) };
}

const image = emptyImage();
let server: Server;
let registry: string;
/** Paths that were requested. */
let requested: string[];
let root: string;

/** Serves a registry that has only the image `there`, whose layers come late, and never answers requests for `hangs`. */
function serve(request: IncomingMessage, response: ServerResponse): void {
  const path = request.url ?? "";
  requested.push(path);
  if (path === "/v2/") return void response.writeHead(200).end("{}");
  if (path.startsWith("/v2/hangs/")) return;
  if (path.startsWith("/v2/there/manifests/")) {
    const length = { "content-length": image.manifest.length };
    const headers = { "content-type": image.type, "docker-content-digest": digestOf(image.manifest), ...length };
    return void response.writeHead(200, headers).end(request.method === "HEAD" ? undefined : image.manifest);
  }
  const blob = image.blobs.get(path.replace("/v2/there/blobs/", ""));
  if (blob) {
    setTimeout(() => response.writeHead(200, { "content-length": blob.length }).end(blob), (PATIENCE + 2) * 1000);
    return;
  }
  const errors = [{ code: "MANIFEST_UNKNOWN", message: "manifest unknown" }];
  response.writeHead(404, { "content-type": "application/json" }).end(JSON.stringify({ errors }));
}

beforeEach(async () => {
  requested = [];
  root = await mkdtemp(join(tmpdir(), "sectorwars-bootstrap-"));
  server = createServer(serve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  registry = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await docker(["image", "rm", `${registry}/there:1`]).catch(() => {});
  await rm(root, { recursive: true, force: true });
});

function sh(lines: string, env: Record<string, string | undefined> = {}) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const all = { ...process.env, REGISTRY_PATIENCE: String(PATIENCE), ...env };
    execFile("/bin/sh", ["-euc", lines, "script/bootstrap"], { env: all }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

/** Pulls images one after another in one run, and returns for each whether it is available. */
async function pull(...names: string[]) {
  const lines = names.map((name) => `if try_pull ${registry}/${name}:1; then echo yes; else echo no; fi`);
  const said = await sh(`${BOOTSTRAP}; LOCAL="${root}"; ${lines.join("; ")}`);
  return { answers: said.stdout.trim().split("\n"), stderr: said.stderr };
}
const probes = () => readdir(join(root, "probes")).catch(() => []);

describe("an image", () => {
  test("is pulled by the engine without a time limit once the download has begun", async () => {
    expect(await pull("there")).toMatchObject({ answers: ["yes"] });
    expect((await docker(["image", "inspect", `${registry}/there:1`])).length).toBeGreaterThan(0);
    expect(await probes()).toEqual([]);
  });

  test("that a registry does not have is not requested again on the same day", async () => {
    const first = await pull("elsewhere");
    expect(first.answers).toEqual(["no"]);
    expect(first.stderr).toMatch(/the image 127\.0\.0\.1:\d+\/elsewhere:1 +failed\n.*manifest.*unknown/);
    expect(await probes()).toHaveLength(1);
    const before = requested.length;
    expect(await pull("elsewhere", "there")).toMatchObject({ answers: ["no", "yes"] });
    expect(requested.slice(before).filter((path) => path.includes("elsewhere"))).toEqual([]);
  });

  test("from a registry that cannot be reached is requested once in each run", async () => {
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const { answers, stderr } = await pull("there", "other");
    expect(answers).toEqual(["no", "no"]);
    expect(stderr.match(/the image/g)).toHaveLength(1);
    expect(stderr).toContain("connection refused");
    expect(await probes()).toEqual([]);
    server = createServer(serve);
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    expect(await pull("there")).toMatchObject({ answers: ["yes"] });
  });

  test("from a registry that never answers is given up after the time limit", async () => {
    const started = Date.now();
    expect(await pull("hangs")).toMatchObject({ answers: ["no"] });
    expect(Date.now() - started).toBeLessThan((PATIENCE + 10) * 1000);
    expect(requested.some((path) => path.includes("hangs"))).toBe(true);
    expect(await probes()).toEqual([]);
  });
});

describe("docker compose", () => {
  const built = resolve(".local/toolchain/bin/docker-compose");
  const make = (folder: string) =>
    sh(`${BOOTSTRAP}; need_compose; docker compose version --short`, { DOCKER_CONFIG: folder });

  test.runIf(existsSync(built))(
    "becomes a plugin of Docker's once it is built, and an existing plugin is kept",
    async () => {
      const plugin = join(root, "cli-plugins/docker-compose");
      // A dangling link.
      await mkdir(join(root, "cli-plugins"), { recursive: true });
      await symlink(join(root, "gone"), plugin);
      const first = await make(root);
      expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^2\.\d+/) });
      expect(first.stderr).toContain("docker compose is now a plugin of Docker's");
      expect(await readlink(plugin)).toBe(built);
      expect((await make(root)).stderr).toBe("");
      // A plugin that is not a link of ours is kept.
      await rm(plugin);
      await writeFile(plugin, "no program");
      expect((await make(root)).stderr).toContain("exists, but docker compose fails");
      expect(await readFile(plugin, "utf8")).toBe("no program");
    },
  );
});

describe("script/bootstrap with the tools of macOS", () => {
  const paths: string[] = [];
  afterAll(() => Promise.all(paths.map((path) => rm(path, { recursive: true, force: true }))));

  test.runIf(existsSync("node_modules/.installed-from"))("finds everything that is installed", async () => {
    // Pulumi may come from the user's PATH instead of the toolchain.
    const pulumi = ["pulumi", "pulumi-language-nodejs"];
    const path = makePath({ programs: ["docker", "node", "npm", "git", "perl", "shasum", "curl", "tar", ...pulumi] });
    paths.push(path);
    const before = await readFile(".local/images.json", "utf8");
    const said = await sh("script/bootstrap base", { PATH: path });
    expect(said.stderr).not.toMatch(/not found|illegal option|error/);
    expect(said).toMatchObject({
      code: 0,
      stderr: "bootstrap: looking for what is missing\nbootstrap: done\n",
    });
    expect(await readFile(".local/images.json", "utf8")).toBe(before);
  });
});
