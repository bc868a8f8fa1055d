/** A new user's machine: a home folder with the clone and the application, and a shell without any settings. */
import { randomBytes } from "node:crypto";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { defaultPort } from "../../components/settings.ts";
import { docker } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { Application } from "./application.ts";
import { images } from "./lab.ts";
import { type Printed, Shell } from "./shell.ts";
import { removeStack } from "./test-stack.ts";

/** Names as the documentation writes them. */
const HOME = "/home/me";
const STACK = "dev";
const PORT = 5433;

/** Returns the environment of a person who has not set up this project yet. */
function bareEnvironment(): NodeJS.ProcessEnv {
  const project = resolve(".");
  const ours = /^(PULUMI_|SECTORWARS_|NEON_|NODE_COMPILE_CACHE|COMPOSE_|DATABASE_URL|npm_|VITEST)/;
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.test(name)));
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => !folder.startsWith(project));
  return { ...env, PATH: folders.join(delimiter) };
}

export class NewUser {
  /** Stands for /home/me. */
  readonly home: string;
  /** Stands for the stack dev. */
  readonly stack = `t${randomBytes(4).toString("hex")}`;
  readonly application: Application;
  private readonly shell: Shell;
  private readonly hidden = new Map<string, string>();

  private constructor(home: string, application: Application, folder: string, env: NodeJS.ProcessEnv) {
    this.home = home;
    this.application = application;
    this.shell = new Shell(folder, env);
  }

  /**
   * @param folder the shell's first folder, in the user's home. `prepare` creates it.
   * @param env further environment variables.
   */
  static async make(
    folder: string,
    prepare: (home: string) => Promise<void>,
    env: NodeJS.ProcessEnv = {},
  ): Promise<NewUser> {
    const home = await realpath(await mkdtemp(join(tmpdir(), "sectorwars-user-")));
    try {
      const application = await Application.make(join(home, "Sectorwars2102"));
      await prepare(home);
      return new NewUser(home, application, join(home, folder), {
        ...bareEnvironment(),
        // HOME stays the real one, because Docker finds docker compose there.
        XDG_CONFIG_HOME: join(home, ".config"),
        // Local images replace those that the application's images are built from.
        ...application.buildEnvironment,
        NEXUS_IMAGE: images().databaseBase,
        ...env,
      });
    } catch (error) {
      await rm(home, { recursive: true, force: true });
      throw error;
    }
  }

  /** Runs a line of a page after replacing these names in it. */
  run(line: string, substitutions: readonly (readonly [string, string])[] = []): Promise<Printed> {
    return this.shell.run(substitutions.reduce((text, [name, own]) => text.replaceAll(name, own), line));
  }

  /** Replaces a value of this run, of any length, in what {@link shown} returns. */
  hide(value: string, shown: string): void {
    this.hidden.set(value, shown);
  }

  /** Returns what was printed, with the names that the pages use. */
  shown(printed: string): string {
    const names = namesFor(this.stack);
    const prefix = names.container.replace(/-database$/, "");
    let text = printed;
    for (const [value, shown] of this.hidden) text = text.replaceAll(value, shown);
    return (
      text
        .replaceAll(this.home, HOME)
        // Columns stay aligned.
        .replaceAll(new RegExp(`( --stack ${this.stack})(?=( *))`, "g"), (_, flag, gap) =>
          gap.length > 1 ? " ".repeat(flag.length) : "",
        )
        .replaceAll(`${prefix}-`, "sectorwars-")
        .replaceAll(this.stack, STACK)
        .replaceAll(new RegExp(`(?<=(127\\.0\\.0\\.1|localhost):)${this.port}\\b`, "g"), String(PORT))
        .replaceAll(this.application.project, "sectorwars2102")
        .replaceAll(/(?<=:\/\/\w+:)[^@\s]+(?=@)/g, "PASSWORD")
    );
  }

  /** The port that the stack's name implies. */
  private get port(): number {
    return defaultPort(this.stack);
  }

  async end(): Promise<void> {
    this.shell.close();
    const composed = ["--filter", `label=com.docker.compose.project=${this.application.project}`];
    const containers = (await docker(["ps", "-aq", ...composed])).split("\n").filter(Boolean);
    if (containers.length > 0) await docker(["rm", "-f", "-v", ...containers]);
    await removeStack(this.stack);
    for (const kind of ["volume", "network"]) {
      for (const name of (await docker([kind, "ls", "-q", ...composed])).split("\n").filter(Boolean)) {
        await docker([kind, "rm", name]).catch(() => {});
      }
    }
    await this.application.end();
  }
}
