/** Files that other users of the machine can read after npm install and pulumi up in a fresh clone. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFile, chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cloneProject, shareNodePackages } from "../support/clone.ts";
import { type CommandResult, removeStack, run } from "../support/test-stack.ts";

const isRoot = process.getuid?.() === 0;

describe.each(["022", "000"])("with umask %s, npm install and pulumi up", (umask) => {
  const stack = `t${randomBytes(4).toString("hex")}`;
  let base: string;
  let clone: string;
  const at = (path: string) => join(base, path);
  const settings = () => at("home/.config/sectorwars");

  /** Runs a command in the clone, with a home folder of its own. */
  function inClone(...command: string[]): Promise<CommandResult> {
    const env = {
      ...process.env,
      HOME: at("home"),
      // Docker's plugins, such as docker compose, may be in the real home.
      DOCKER_CONFIG: process.env.DOCKER_CONFIG ?? join(homedir(), ".docker"),
      XDG_CONFIG_HOME: at("home/.config"),
      PULUMI_HOME: at("home/.pulumi"),
      PULUMI_BACKEND_URL: undefined,
      PULUMI_CONFIG_PASSPHRASE: "",
      NEON_DATABASE_URL: undefined,
      NODE_COMPILE_CACHE: undefined,
      SECTORWARS_ROOT: undefined,
    };
    return new Promise((done) => {
      const args = ["-c", `umask ${umask}; exec "$@"`, "sh", ...command];
      execFile("sh", args, { cwd: clone, env, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) =>
        done({ code: error === null ? 0 : Number(error.code) || 1, text: stdout + stderr, stdout, stderr }),
      );
    });
  }
  async function succeed(...command: string[]): Promise<CommandResult> {
    const said = await inClone(...command);
    if (said.code !== 0) throw new Error(`${command.join(" ")} failed:\n${said.text}`);
    return said;
  }
  const pulumi = (...args: string[]) => succeed("pulumi", ...args, "--stack", stack, "--non-interactive");
  const up = () => pulumi("up", "--yes", "--skip-preview");
  const doctor = () => inClone("./db", "doctor", "--stack", stack, "--json");
  const finding = async () =>
    JSON.parse((await doctor()).stdout).find(({ what }: { what: string }) => what === "Files with secrets");

  beforeAll(async () => {
    base = await mkdtemp(join(tmpdir(), "sectorwars-private-"));
    await chmod(base, 0o755);
    clone = at("clone");
    for (const folder of ["home/.pulumi", "application"]) await mkdir(at(folder), { recursive: true });
    await cloneProject(clone, umask);
    await shareNodePackages(clone);
    await cp(".local/images.json", join(clone, ".local/images.json")).catch(() => {});
    const plugins = resolve(process.env.PULUMI_HOME ?? ".local/pulumi", "plugins");
    await run("cp", ["-al", plugins, at("home/.pulumi/plugins")]);
    await cp("test/application", at("application"), { recursive: true });
    await writeFile(at("application/.gitignore"), ".env\n");
    await run("git", ["init", "--quiet", at("application")]);
    await writeFile(join(clone, `Pulumi.${stack}.yaml`), "config:\n");
    const wanted = {
      bootstrap: "sample",
      safetyCopy: true,
      backups: true,
      handoverFolder: at("application"),
      memory: 512,
    };
    for (const [key, value] of Object.entries({ ...wanted, maxConnections: 80 })) {
      await appendFile(join(clone, `Pulumi.${stack}.yaml`), `  sectorwars-database:${key}: "${value}"\n`);
    }
    await succeed("pulumi", "stack", "init", stack);
    // The empty passphrase decrypts any secret among the settings.
    await pulumi("config", "set", "--secret", "elsewhere:token", "of another program");
    await up();
  });

  afterAll(async () => {
    await removeStack(stack);
    await rm(base, { recursive: true, force: true });
  });

  /** Returns all secrets of the stack, in all encodings in which a file may hold them. */
  async function secrets(): Promise<Buffer[]> {
    const said = await pulumi("stack", "export", "--show-secrets");
    // Secrets are JSON inside JSON. Passwords have 32 letters and digits.
    const shown = [...said.stdout.matchAll(/"plaintext": "((?:[^"\\]|\\.)*)"/g)].map(([, text = ""]) => text);
    const generated = new Set(shown.flatMap((text) => text.match(/\b[A-Za-z0-9]{32}\b/g) ?? []));
    const keys = await Promise.all(
      (await readdir(settings())).map(async (name) => {
        const text = await readFile(join(settings(), name), "utf8");
        return /^key: (\S+)|^(AGE-SECRET-KEY-\S+)/m.exec(text)?.slice(1).filter(Boolean) ?? [];
      }),
    );
    expect(generated.size).toBeGreaterThan(5);
    expect(keys.flat()).toHaveLength(2);
    return [...generated, ...keys.flat()].flatMap((secret: string) => {
      const bytes = Buffer.from(secret);
      // The last base64 characters depend on the bytes that follow.
      return [bytes, Buffer.from(bytes.toString("hex")), Buffer.from(bytes.toString("base64").slice(0, -4))];
    });
  }

  /** Lists files that contain a secret, or a text that the empty passphrase decrypts. */
  async function filesWithSecrets(): Promise<string[]> {
    const wanted = [...(await secrets()), Buffer.from('"ciphertext"'), Buffer.from("secure: v1:")];
    const found: string[] = [];
    for (const entry of await readdir(base, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (!entry.isFile() || /\/(node_modules|plugins|test|\.git)\//.test(path)) continue;
      const content = await readFile(path);
      if (wanted.some((secret) => content.includes(secret))) found.push(path);
    }
    return found;
  }

  /** Returns whether others may read a file, by its mode and the modes of all folders above it. */
  async function isOpen(path: string): Promise<boolean> {
    if (((await stat(path)).mode & 0o077) === 0) return false;
    for (let above = dirname(path); above !== base; above = dirname(above)) {
      if (((await stat(above)).mode & 0o077) === 0) return false;
    }
    return true;
  }

  async function readableByOthers(paths: readonly string[]): Promise<string[]> {
    const readable: string[] = [];
    for (const path of paths) {
      const asAnotherUser = ["--reuid=65534", "--regid=65534", "--clear-groups", "cat", path];
      const isRead = isRoot && (await run("setpriv", asAnotherUser)).code === 0;
      if (isRead || (await isOpen(path))) readable.push(relative(base, path));
    }
    return readable;
  }

  test("let no other user read a file with a secret", async () => {
    const files = await filesWithSecrets();
    const kinds = files.map((file) => relative(base, file));
    for (const kind of [
      /^clone\/\.local\/state\/\.pulumi\/stacks\//,
      /^clone\/\.local\/state\/\.pulumi\/history\//,
      /^application\/\.env$/,
      /age-identity\.txt$/,
      /backups-\w+\.txt$/,
      /^clone\/Pulumi\.\w+\.yaml$/,
    ]) {
      expect(kinds).toContainEqual(expect.stringMatching(kind));
    }
    expect(await readableByOthers(files)).toEqual([]);
    expect(await finding()).toMatchObject({ fine: true, seen: "only you can open them" });
  });

  // Once a stack is up, the umask makes no difference.
  test.runIf(umask === "022")("close files that were opened since, and report them", async () => {
    const configuration = join(clone, `Pulumi.${stack}.yaml`);
    const opened = [join(clone, ".local"), at("application/.env"), settings(), configuration];
    for (const path of opened) await run("chmod", ["-R", "a+rwX", path]);
    expect((await readableByOthers(await filesWithSecrets())).length).toBeGreaterThan(4);

    const found = await finding();
    expect(found.fine).toBe(false);
    for (const part of [
      ".local (0777)",
      `${at("application/.env")} (0666)`,
      `${settings()} (0777)`,
      `Pulumi.${stack}.yaml (0666)`,
    ]) {
      expect(found.seen).toContain(part);
    }
    const { text } = await up();
    expect(text).toContain(`Other users of this machine could open .local (0777)`);
    expect(text).toContain("raise passwordVersion");
    expect(await readableByOthers(await filesWithSecrets())).toEqual([]);
    expect(await finding()).toMatchObject({ fine: true });
    expect((await up()).text).not.toContain("Other users");
  });

  test.runIf(umask === "022")("are not needed: doctor's remedy closes the files too", async () => {
    await run("chmod", ["-R", "a+rX", join(clone, ".local"), at("application/.env")]);
    const { remedy } = await finding();
    expect(remedy).toContain("chmod -R go= .local");
    await succeed("sh", "-c", remedy.replace(/^Run as the owner: /, "").replace(/, or: pulumi up$/, ""));
    expect(await readableByOthers(await filesWithSecrets())).toEqual([]);
    expect(await finding()).toMatchObject({ fine: true });
  });

  test("make doctor report a project folder that other users can write, because they could add code", async () => {
    const findings: { what: string; fine: boolean; remedy: string }[] = JSON.parse((await doctor()).stdout);
    const found = findings.filter(({ what }) => what === "The project's folder");
    if (umask === "022") expect(found).toEqual([]);
    else expect(found).toMatchObject([{ fine: false, remedy: `Run as the owner: chmod -R go-w ${clone}` }]);
  });
});
