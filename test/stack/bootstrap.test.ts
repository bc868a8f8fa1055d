/** How script/bootstrap obtains images, from registries that answer, refuse, hang and are gone; and what it needs of a system. */
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

/** The functions of script/bootstrap, without what it does. */
const BOOTSTRAP = 'eval "$(sed "/^wants_newer=no/,\\$d" script/bootstrap)"';
/** Seconds that a registry gets to answer in these tests. */
const PATIENCE = 3;

const digestOf = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/** An image with one empty layer, as a registry serves it (the OCI distribution specification). */
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
/** Paths that were asked for. */
let asked: string[];
let root: string;

/** A registry with the image `there`, whose layers come late, and nothing else; it never answers for `hangs`. */
function serve(request: IncomingMessage, response: ServerResponse): void {
  const path = request.url ?? "";
  asked.push(path);
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
  asked = [];
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

/** Asks for images, one after the other in one run; says for each whether it is there now. */
async function pull(...names: string[]) {
  const lines = names.map((name) => `if can_pull ${registry}/${name}:1; then echo yes; else echo no; fi`);
  const said = await sh(`${BOOTSTRAP}; LOCAL="${root}"; ${lines.join("; ")}`);
  return { answers: said.stdout.trim().split("\n"), told: said.stderr };
}
const probes = () => readdir(join(root, "probes")).catch(() => []);

describe("an image", () => {
  test("is pulled by the engine, however long that takes once it has begun", async () => {
    expect(await pull("there")).toMatchObject({ answers: ["yes"] });
    expect((await docker(["image", "inspect", `${registry}/there:1`])).length).toBeGreaterThan(0);
    expect(await probes()).toEqual([]);
  });

  test("that a registry does not have is not asked for again today", async () => {
    const first = await pull("elsewhere");
    expect(first.answers).toEqual(["no"]);
    expect(first.told).toMatch(/the image 127\.0\.0\.1:\d+\/elsewhere:1 +failed\n.*manifest.*unknown/);
    expect(await probes()).toHaveLength(1);
    const before = asked.length;
    expect(await pull("elsewhere", "there")).toMatchObject({ answers: ["no", "yes"] });
    expect(asked.slice(before).filter((path) => path.includes("elsewhere"))).toEqual([]);
  });

  test("from a registry that cannot be reached is asked for again the next time, but not twice in one run", async () => {
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const { answers, told } = await pull("there", "other");
    expect(answers).toEqual(["no", "no"]);
    expect(told.match(/the image/g)).toHaveLength(1);
    expect(told).toContain("connection refused");
    expect(await probes()).toEqual([]);
    server = createServer(serve);
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    expect(await pull("there")).toMatchObject({ answers: ["yes"] });
  });

  test("from a registry that never answers is given up", async () => {
    const begun = Date.now();
    expect(await pull("hangs")).toMatchObject({ answers: ["no"] });
    expect(Date.now() - begun).toBeLessThan((PATIENCE + 10) * 1000);
    expect(asked.some((path) => path.includes("hangs"))).toBe(true);
    expect(await probes()).toEqual([]);
  });
});

describe("docker compose", () => {
  const built = resolve(".local/toolchain/bin/docker-compose");
  const make = (folder: string) =>
    sh(`${BOOTSTRAP}; need_compose; docker compose version --short`, { DOCKER_CONFIG: folder });

  test.runIf(existsSync(built))("works as written once it is built, and stays what it is where it does", async () => {
    const plugin = join(root, "cli-plugins/docker-compose");
    // A link of a folder that is gone.
    await mkdir(join(root, "cli-plugins"), { recursive: true });
    await symlink(join(root, "gone"), plugin);
    const first = await make(root);
    expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^2\.\d+/) });
    expect(first.stderr).toContain("docker compose is now a plugin of Docker's");
    expect(await readlink(plugin)).toBe(built);
    expect((await make(root)).stderr).toBe("");
    // What is not ours is not replaced.
    await rm(plugin);
    await writeFile(plugin, "no program");
    expect((await make(root)).stderr).toContain("exists, but docker compose fails");
    expect(await readFile(plugin, "utf8")).toBe("no program");
  });
});

describe("script/bootstrap on a system with macOS's tools", () => {
  const paths: string[] = [];
  afterAll(() => Promise.all(paths.map((path) => rm(path, { recursive: true, force: true }))));

  test.runIf(existsSync("node_modules/.installed-from"))("finds all that is there", async () => {
    // Pulumi may be the user's own, and not the toolchain's.
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
