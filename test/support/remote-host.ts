/**
 * Simulates another machine with Docker and SSH: a container with its own network, file systems and engine. This engine cannot affect the
 * one that runs the container.
 */
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { docker } from "../../lib/docker.ts";
import { images } from "./lab.ts";

const run = promisify(execFile);
/**
 * Privileges that an engine needs in addition to a container's default ones: mounts, bridges and packet filters, in its own namespaces.
 * Fewer than --privileged, which also allows access to devices, and which fails if root itself lacks a capability.
 */
const RIGHTS = ["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN"].concat(
  ["seccomp", "apparmor", "systempaths"].map((part) => `--security-opt=${part}=unconfined`),
);
const STARTS_WITHIN_MS = 120_000;

/** The ssh command of the test machine, found before the test changes PATH. */
const findSsh = async () => (await run("sh", ["-c", "command -v ssh"])).stdout.trim();

export class RemoteHost {
  /** The engine's address, in the form of DOCKER_HOST and the setting dockerHost. */
  readonly engine: string;
  /** PATH with an ssh command that knows this host and its key, which users have in their own ~/.ssh. */
  readonly path: string;
  private readonly name: string;
  private readonly folder: string;

  private constructor(name: string, folder: string, port: string) {
    this.name = name;
    this.folder = folder;
    this.engine = `ssh://root@127.0.0.1:${port}`;
    this.path = `${folder}:${process.env.PATH}`;
  }

  /** Builds the machine's image and starts it. */
  static async start(): Promise<RemoteHost> {
    const name = `sectorwars-test-remote-${randomBytes(4).toString("hex")}`;
    const folder = await mkdtemp(join(tmpdir(), "sectorwars-remote-"));
    try {
      await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, "key")]);
      await docker(["build", "-q", "-t", name, "--build-arg", `BASE=${images().databaseBase}`, "test/remote-host"]);
      const key = (await readFile(join(folder, "key.pub"), "utf8")).trim();
      const store = ["-v", "/var/lib/docker", "-v", "/var/lib/containerd"];
      const label = ["--label", "sectorwars.test=1"];
      const access = ["-e", `AUTHORIZED_KEY=${key}`, "-p", "127.0.0.1::22"];
      await docker(["run", "-d", ...RIGHTS, "--init", "--name", name, ...label, ...store, ...access, name]);
      const port = (await docker(["port", name, "22/tcp"])).trim().split(":").pop() ?? "";
      const host = new RemoteHost(name, folder, port);
      await host.awake();
      const options = [
        "-i",
        "KEY",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "UserKnownHostsFile=HOSTS",
        "-o",
        "LogLevel=ERROR",
      ];
      const given = options.map((option) =>
        option.replace("KEY", join(folder, "key")).replace("HOSTS", join(folder, "hosts")),
      );
      await writeFile(join(folder, "hosts"), await host.hostKeys(port));
      await writeFile(join(folder, "ssh"), `#!/bin/sh\nexec ${await findSsh()} -F none ${given.join(" ")} "$@"\n`, {
        mode: 0o755,
      });
      return host;
    } catch (error) {
      await remove(name, folder);
      throw error;
    }
  }

  private async awake(): Promise<void> {
    for (const end = Date.now() + STARTS_WITHIN_MS; ; await sleep(300)) {
      try {
        return void (await this.docker("version"));
      } catch (error) {
        if (Date.now() < end) continue;
        const log = await docker(["logs", "--tail", "20", this.name]).catch(() => "");
        throw new Error(`the engine of ${this.name} does not answer: ${(error as Error).message}\n${log}`);
      }
    }
  }

  /** Returns the entry for known_hosts, read on the host itself. */
  private async hostKeys(port: string): Promise<string> {
    const keys = await docker(["exec", this.name, "sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]);
    return keys.replaceAll(/^(?=\S)/gm, `[127.0.0.1]:${port} `);
  }

  /** Runs a docker command on the host itself. */
  docker(...args: string[]): Promise<string> {
    return docker(["exec", this.name, "docker", ...args]);
  }

  /** Returns everything on the host's engine that it did not have at the start. */
  async holds(): Promise<string[]> {
    const lists = await Promise.all([
      this.docker("ps", "-a", "--format", "container {{.Names}}"),
      this.docker("volume", "ls", "--format", "volume {{.Name}}"),
      this.docker("network", "ls", "--filter", "type=custom", "--format", "network {{.Name}}"),
    ]);
    return lists.join("").split("\n").filter(Boolean);
  }

  /** Runs an ssh command that a message showed to the user, in the background. Returns a function that ends it. */
  forward(command: string): () => Promise<void> {
    const [program = "", ...args] = command.split(" ");
    const child = spawn(program, args, { env: { ...process.env, PATH: this.path }, stdio: "ignore" });
    const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
    return async () => {
      child.kill();
      await ended;
    };
  }

  end(): Promise<void> {
    return remove(this.name, this.folder);
  }
}

async function remove(name: string, folder: string): Promise<void> {
  await docker(["rm", "-f", "-v", name]).catch(() => {});
  await docker(["image", "rm", name]).catch(() => {});
  await rm(folder, { recursive: true, force: true });
}
