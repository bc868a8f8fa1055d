import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasProgram, makePath } from "../support/path.ts";

const SCRIPTS = [
  "db",
  ...["bootstrap", "lib.sh", "portable.sh", "debian.sh", "up", "test", "preview", "env"].map(
    (name) => `script/${name}`,
  ),
];
const BUILDS = ["images/base/build", "images/migrations/build"];
/** Defines the functions of script/bootstrap without running it. */
const BOOTSTRAP = 'eval "$(sed "/^wants_newer=no/,\\$d" script/bootstrap)"';
/** Programs that compute SHA-256, one or more of which each system has. */
const HASHES = ["sha256sum", "shasum", "openssl"];
const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const folders: string[] = [];
function pathWith(programs: string[], commands: string[] = []): string {
  folders.push(makePath({ programs, commands }));
  return folders.at(-1) ?? "";
}
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** Runs lines of shell as script/bootstrap would. */
function sh(lines: string, PATH = process.env.PATH, env: Record<string, string> = {}) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(
      "/bin/sh",
      ["-euc", lines, "script/bootstrap"],
      { env: { HOME: "/nonexistent", ...env, PATH } },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

describe("the scripts", () => {
  test.each([...SCRIPTS, ...BUILDS])("%s uses no command or option that macOS lacks", (file) => {
    const lines = readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => !/^\s*#/.test(line));
    const lacking =
      /(?<![\w.-])(timeout|flock|setsid|sha256sum|md5sum|realpath|nproc|tac|gsed) |sort [^|]*-V|sed -i|stat -c|readlink -[fem]|date -d|grep -\w*P|xargs -r|cp -a\b/;
    // portable.sh contains replacements, which first check whether the command exists.
    const found = lines.filter((line) => lacking.test(line) && file !== "script/portable.sh");
    expect(found).toEqual([]);
  });

  test.each(["timeout", "flock", "setsid", "sha256sum"])(
    "script/portable.sh checks whether %s exists before it uses it",
    (command) => {
      const text = readFileSync("script/portable.sh", "utf8").replaceAll(/^\s*#.*$/gm, "");
      const uses = text.match(new RegExp(`(?<![\\w.-])${command}\\b`, "g"))?.length ?? 0;
      if (uses > 0) expect(text).toContain(`command -v ${command} >/dev/null`);
    },
  );
});

describe("the function sha256", () => {
  test.each(HASHES.filter(hasProgram))("returns the same digest with %s alone", async (program) => {
    const said = await sh(". script/portable.sh; sha256 </dev/null", pathWith([program]));
    expect(said).toMatchObject({ code: 0, stdout: `${EMPTY_SHA256}\n` });
  });

  test("fails if no program can compute it, so that no image name lacks its digest", async () => {
    const without = pathWith([]);
    for (const line of ["images/base/build --name bookworm 15 15.1-2", "images/migrations/build --name trixie 3.1-2"]) {
      const said = await sh(line, without);
      expect(said).toMatchObject({ stdout: "" });
      expect(said.code).not.toBe(0);
      expect(said.stderr).toContain("error: sha256sum, shasum and openssl are missing. Install one of them.");
    }
  });

  test.each([
    [
      "images/base/build --name bookworm 15 15.20-0+deb12u1",
      /^sectorwars\/postgres:15\.20-0\.deb12u1-bookworm-[0-9a-f]{8}\n$/,
    ],
    ["images/migrations/build --name trixie 3.13.5-2", /^sectorwars\/python:3\.13\.5-2-trixie-[0-9a-f]{8}\n$/],
  ])("gives an image the same name with the programs of Linux and of macOS: %s", async (line, expected) => {
    const [first, ...others] = await Promise.all(
      HASHES.filter(hasProgram).map((hash) => sh(line, pathWith([hash, "perl"]))),
    );
    expect(first?.stdout).toMatch(expected);
    for (const other of others) expect(other).toEqual(first);
  });
});

test.each([
  ["3.259.0", "3.259.0", true],
  ["3.260.1", "3.259.0", true],
  ["3.99.0", "3.259.0", false],
  ["4", "3.259.0", true],
  ["3.259", "3.259.1", false],
  ["1.22rc1", "1.21", true],
  ["1.9", "1.21", false],
  ["15.20-0+deb12u1", "15.18-0+deb12u1", true],
  ["15.20-0+deb12u1", "15.20-0+deb12u2", false],
])("version %s is at least %s: %s", async (have, want, expected) => {
  const said = await sh(
    `. script/portable.sh; if at_least ${have} ${want}; then echo yes; else echo no; fi`,
    pathWith([]),
  );
  expect(said.stdout).toBe(expected ? "yes\n" : "no\n");
});

describe.each(["flock", "perl"].filter(hasProgram))("the lock by %s", (program) => {
  test("excludes a second process until its holder ends", async () => {
    const PATH = pathWith([program]);
    const folder = mkdtempSync(join(tmpdir(), "sectorwars-lock-"));
    folders.push(folder);
    const take = `. script/portable.sh; exec 9>"${folder}/lock"; lock_9`;
    const holder = spawn("/bin/sh", ["-c", `${take}; echo held; exec sleep 60`], {
      env: { PATH },
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(holder.stdout, "data");
    expect((await sh(`${take} -n || echo busy`, PATH)).stdout).toBe("busy\n");
    const second = sh(`${take}; echo mine`, PATH);
    const ended = once(holder, "exit");
    holder.kill("SIGKILL");
    await ended;
    expect((await second).stdout).toBe("mine\n");
    expect((await sh(`${take} -n && echo free`, PATH)).stdout).toBe("free\n");
  });
});

// If the daemon kept the lock, every later bootstrap would wait until the daemon ends.
test.skipIf(!hasProgram("flock")).each(["dash", "bash"].filter(hasProgram))(
  "the Docker engine that script/bootstrap starts in %s does not keep the lock",
  async (shell) => {
    const path = pathWith(["flock", "setsid"]);
    const root = mkdtempSync(join(tmpdir(), "sectorwars-engine-"));
    folders.push(root);
    // A fake engine that answers while its daemon runs.
    writeFileSync(join(path, "dockerd"), `#!/bin/sh\necho $$ >"${root}/daemon"\nexec sleep 60\n`, { mode: 0o755 });
    writeFileSync(join(path, "docker"), `#!/bin/sh\n[ -s "${root}/daemon" ]\n`, { mode: 0o755 });
    const lines = `${BOOTSTRAP}; LOCAL="${root}"; exec 9>"${root}/lock"; lock_9; step "the engine" start_docker`;
    await promisify(execFile)(shell, ["-euc", lines, "script/bootstrap"], {
      env: { ...process.env, PATH: `${path}${delimiter}${process.env.PATH}` },
    });
    const daemon = Number(readFileSync(join(root, "daemon"), "utf8"));
    try {
      process.kill(daemon, 0);
      expect((await sh(`. script/portable.sh; exec 9>"${root}/lock"; lock_9 -n && echo free`)).stdout).toBe("free\n");
    } finally {
      process.kill(daemon);
    }
  },
);

test.each([["setsid"].filter(hasProgram), []].map((programs) => [programs]))(
  "a command outlives its terminal with %j",
  async (programs) => {
    const folder = mkdtempSync(join(tmpdir(), "sectorwars-detached-"));
    folders.push(folder);
    const line = `. script/portable.sh; detached sh -c "sleep 0.7; echo alive >${folder}/said" >/dev/null 2>&1 & echo begun; wait`;
    const env = { PATH: pathWith(programs) };
    const shell = spawn("/bin/sh", ["-c", line], { env, stdio: ["ignore", "pipe", "ignore"], detached: true });
    await once(shell.stdout, "data");
    // Wait until the command has its own session, or ignores the signal.
    await new Promise((resolve) => setTimeout(resolve, 300));
    const ended = once(shell, "exit");
    process.kill(-(shell.pid ?? 0), "SIGHUP");
    await ended;
    await expect.poll(() => readdirSync(folder), { timeout: 5000 }).toEqual(["said"]);
  },
);

describe("remembered answers of probes", () => {
  let root: string;
  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), "sectorwars-remembered-"));
    folders.push(root);
  });
  const ask = async (key: string, code: number) => {
    const line = `LOCAL="${root}"; command() { echo asked >&3; return ${code}; }; if remembered ${key} command; then echo yes; else echo no; fi`;
    const said = await sh(`. script/lib.sh; exec 3>&2; ${line}`, pathWith(HASHES));
    return { answer: said.stdout.trim(), asked: said.stderr.includes("asked") };
  };

  test.each([
    ["yes", 0],
    ["no", 1],
  ])('keep "%s" for a day', async (answer, code) => {
    expect(await ask(`day-${code}`, code)).toEqual({ answer, asked: true });
    expect(await ask(`day-${code}`, 1 - code)).toEqual({ answer, asked: false });
    const yesterday = Date.now() / 1000 - 25 * 3600;
    utimesSync(join(root, `probes/day-${code}`), yesterday, yesterday);
    expect((await ask(`day-${code}`, 1 - code)).asked).toBe(true);
  });

  test("do not contain a probe without an answer, which runs again the next time", async () => {
    expect(await ask("network", 2)).toEqual({ answer: "no", asked: true });
    expect(readdirSync(join(root, "probes"))).not.toContain("network");
    expect(await ask("network", 0)).toEqual({ answer: "yes", asked: true });
  });

  test('distinguish an unreachable server, which is no answer, from a missing file, which is "no"', async () => {
    const { createServer } = await import("node:http");
    const server = createServer((request, response) => response.writeHead(request.url === "/there" ? 200 : 404).end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const reach = async (path: string) =>
      (await sh(`${BOOTSTRAP}; code=0; reach http://127.0.0.1:${port}${path} || code=$?; echo $code`)).stdout.trim();
    expect([await reach("/there"), await reach("/elsewhere")]).toEqual(["0", "1"]);
    await new Promise((resolve) => server.close(resolve));
    expect(await reach("/there")).toBe("2");
  });

  test("include the last known version for a day, and longer if the version cannot be determined", async () => {
    const note = async (line: string) =>
      (await sh(`. script/lib.sh; LOCAL="${root}"; noted version sh -c '${line}'`)).stdout;
    expect(await note("exit 1")).toBe("");
    expect(await note("echo 15.18")).toBe("15.18\n");
    expect(await note("echo 15.20")).toBe("15.18\n");
    const yesterday = Date.now() / 1000 - 25 * 3600;
    utimesSync(join(root, "probes/version"), yesterday, yesterday);
    expect(await note("echo 15; exit 1")).toBe("15.18\n");
    expect(await note("echo 15.20")).toBe("15.20\n");
  });
});

describe("script/up", () => {
  /** Returns the stack, empty for the selected one, and the arguments for Pulumi, each followed by `|`. */
  const read = (words: string) =>
    sh(`. script/lib.sh; set -- ${words}\n. script/up-arguments.sh; printf '%s|' "$stack" "$@"`);

  test.each([
    ["", "|"],
    ["--stack feature", "feature|"],
    ["--stack=feature --yes", "feature|--yes|"],
    ["--target '**Container::server' -s feature", "feature|--target|**Container::server|"],
    ["-c a=b --skip-preview -m 'two words'", "|-c|a=b|--skip-preview|-m|two words|"],
  ])("splits the arguments %j into stack and Pulumi's arguments: %s", async (words, expected) => {
    expect(await read(words)).toMatchObject({ code: 0, stdout: expected });
  });

  test.each([
    ["feature", "'feature' is not an option. If you mean the stack feature, run: script/up --stack feature"],
    ["--yes feature", "'feature' is not an option. If you mean the stack feature, run: script/up --stack feature"],
    ["--stack one two", "'two' is not an option. If you mean the stack two, run: script/up --stack two"],
    ["--stack", "--stack needs a name, for example: script/up --stack dev"],
  ])("refuses %s", async (words, expected) => {
    expect(await read(words)).toMatchObject({ code: 1, stderr: `error: ${expected}\n` });
  });
});

describe("a missing package", () => {
  const engine = "docker.io iptables ca-certificates";
  test.each([
    ["dnf", "nodejs npm", "As root, run: dnf install nodejs npm"],
    ["dnf", engine, "As root, run: dnf install moby-engine iptables ca-certificates"],
    [
      "pacman",
      "golang-go ca-certificates gcc libc6-dev",
      "As root, run: pacman -S --needed go ca-certificates gcc glibc",
    ],
    ["apk", "golang-go libc6-dev busybox-static", "As root, run: apk add go musl-dev busybox-static"],
    ["zypper", "nodejs npm", "As root, run: zypper install nodejs-default npm-default"],
    ["brew", "nodejs npm ca-certificates", "Run: brew install node"],
    ["brew", "chromium", "Run: brew install --cask chromium"],
  ])("is reported with the command of %s: %s", async (manager, packages, expected) => {
    const PATH = pathWith(HASHES, [manager]);
    const said = await sh(`${BOOTSTRAP}; need_package "it" ${packages}`, PATH);
    expect(said).toEqual({ code: 1, stdout: "", stderr: `error: it is missing. ${expected}\n` });
  });

  test("is reported with Debian's package names if the package manager is unknown", async () => {
    const said = await sh(`${BOOTSTRAP}; need_package "npm" nodejs npm`, pathWith(HASHES));
    expect(said.stderr).toBe(
      "error: npm is missing. Install it with your system's package manager; Debian's packages for it are: nodejs npm\n",
    );
  });
});

describe("Debian's repositories", () => {
  test("are the suite, its updates and its security updates", async () => {
    const said = await sh(". script/debian.sh; debian_sources bookworm", pathWith([]));
    expect(said.stdout.trim().split("\n")).toEqual([
      "deb http://deb.debian.org/debian bookworm main",
      "deb http://deb.debian.org/debian bookworm-updates main",
      "deb http://deb.debian.org/debian-security bookworm-security main",
    ]);
  });

  test("return the newest version of all three, and an error if one cannot be read", async () => {
    const { execFileSync } = await import("node:child_process");
    const { createServer } = await import("node:http");
    const list = (...versions: string[]) =>
      execFileSync("xz", ["-c"], {
        input: versions
          .map((version) => `Package: postgresql-15\nVersion: ${version}\n\nPackage: other\nVersion: 99\n\n`)
          .join(""),
      });
    const lists = new Map([
      ["bookworm", list("15.18-0+deb12u1")],
      ["bookworm-updates", list()],
      ["bookworm-security", list("15.19-0+deb12u1", "15.20-0+deb12u1")],
    ]);
    const server = createServer((request, response) => {
      const [, suite = ""] = /^\/dists\/([\w-]+)\/main\/binary-\w+\/Packages\.xz$/.exec(request.url ?? "") ?? [];
      const found = lists.get(suite);
      response.writeHead(found ? 200 : 404).end(found);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const at = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
    const mirrors = { DEBIAN_MIRROR: at, DEBIAN_SECURITY_MIRROR: at };
    const ask = () =>
      sh(". script/portable.sh; . script/debian.sh; debian_release bookworm postgresql-15", process.env.PATH, mirrors);
    try {
      expect(await ask()).toMatchObject({ code: 0, stdout: "15.20-0+deb12u1\n" });
      lists.delete("bookworm-security");
      const said = await ask();
      expect(said.stdout).toBe("");
      expect(said.code).not.toBe(0);
    } finally {
      server.close();
    }
  });
});

// macOS's /bin/sh is bash, which ignores `set -e` in more places than other shells.
test.each(["sh", "bash"])(
  "a failed step in %s ends the script, shows its last output and names its log file",
  async (shell) => {
    const root = mkdtempSync(join(tmpdir(), "sectorwars-step-"));
    folders.push(root);
    const lines = `. script/lib.sh; LOCAL="${root}"; work() { echo why; false; echo never; }; step "a step" work; echo on`;
    const said = await new Promise<{ code: number; text: string }>((resolve) => {
      const child = spawn(shell, ["-euc", lines, "script/bootstrap"], { stdio: ["ignore", "pipe", "pipe"] });
      let text = "";
      for (const stream of [child.stdout, child.stderr]) {
        stream.on("data", (chunk: Buffer) => {
          text += chunk.toString();
        });
      }
      child.once("close", (code) => resolve({ code: code ?? -1, text }));
    });
    expect(said.code).toBe(1);
    expect(said.text).toContain("why\n");
    expect(said.text).not.toMatch(/never|^on$/m);
    expect(said.text).toContain(`a step failed; the whole output is in ${root}/log/a-step.log`);
  },
);
