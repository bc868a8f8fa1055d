/**
 * `./db adopt` imports a volume that docker compose made, and leaves it unchanged. The stack has backups: before this import, and
 * before that of a further database, the output names the time to restore to.
 */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { recordedData } from "../../components/backups/auto.ts";
import { docker } from "../../lib/docker.ts";
import { stateResources } from "../../lib/stack-state.ts";
import { BACKED_UP, BackedUp, until } from "../support/backed-up.ts";
import { withConnection } from "../support/session.ts";
import { TestStack, urlAddress } from "../support/test-stack.ts";

const id = randomBytes(4).toString("hex");
const volume = `swtest${id}_postgres_data`;
const former = `swtest-${id}-database`;
let stack: TestStack;
let backed: BackedUp;
let base: string;

/** The line before an import that names the time to restore to. */
const RESTORE_HINT =
  /to restore all databases of the server as they are now from the backups: \.\/db restore --to (\S+) --stack/;
const adopt = (...args: string[]) => stack.db("adopt", ...args);
/** Returns a digest of all files in the volume. */
const contentOf = async () => {
  const list = "cd /v && find . -type f -exec sha256sum {} + | sort";
  const text = await docker(["run", "--rm", "-v", `${volume}:/v:ro`, "--entrypoint", "sh", base, "-c", list]);
  return createHash("sha256").update(text).digest("hex");
};

beforeAll(async () => {
  base = JSON.parse(await readFile(".local/images.json", "utf8")).databaseBase;
  stack = await TestStack.make(BACKED_UP);
  backed = new BackedUp(stack);
  // Both servers start at the same time.
  const up = stack.up();
  up.catch(() => {});
  // docker compose starts its database like this.
  const environment = ["-e", "POSTGRES_PASSWORD=forgotten", "-e", "POSTGRES_DB=sectorwars_dev"];
  await docker(["run", "-d", "--name", former, ...environment, "-v", `${volume}:/var/lib/postgresql/data`, base]);
  const psql = (sql: string) =>
    docker([
      "exec",
      "-e",
      "PGPASSWORD=forgotten",
      former,
      "psql",
      "-h",
      "127.0.0.1",
      "-U",
      "postgres",
      "-d",
      "sectorwars_dev",
      "-c",
      sql,
    ]);
  for (let tries = 0; ; tries += 1) {
    try {
      await psql("CREATE TABLE ships AS SELECT i AS id, 'ship ' || i AS name FROM generate_series(1, 1000) i");
      break;
    } catch (error) {
      if (tries > 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }
  await up;
});
afterAll(async () => {
  await docker(["rm", "-f", "-v", former]).catch(() => {});
  await docker(["volume", "rm", volume]).catch(() => {});
  await stack.end();
});

describe("adopt", () => {
  let beforeAdopting: string;

  test("refuses a volume in use, a missing volume, and the stack's own", async () => {
    const inUse = await adopt(volume);
    expect(inUse.text).toContain(
      `The container ${former} uses the volume ${volume}. Stop it first: docker stop ${former}`,
    );
    expect(inUse.code).toBe(1);
    expect((await adopt("swtest-no-such-volume")).text).toContain("The volume swtest-no-such-volume does not exist");
    expect((await adopt()).text).toContain("missing required argument 'volume'");
    expect((await adopt(stack.names.volume)).text).toContain("is this stack's own volume");
  });

  test.each(["SIGINT", "SIGKILL"] as const)("removes its server after %s", async (signal) => {
    // The former server is killed, not stopped, as on a laptop that ran out of battery.
    await docker(["kill", former]).catch(() => {});
    const servers = (...flags: string[]) =>
      docker(["ps", "-q", ...flags, "--filter", "label=sectorwars.adopt", "--filter", `name=${stack.name}`]);
    const child = spawn("./db", ["adopt", "--stack", stack.name, volume], {
      env: { ...process.env, ...stack.env } as NodeJS.ProcessEnv,
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk;
    });
    await vi.waitFor(async () => expect(await servers()).not.toBe(""), { timeout: 30_000, interval: 50 });
    child.kill(signal);
    await once(child, "close");
    if (signal === "SIGINT") {
      expect(said).toContain(`Stopped. ${volume} and the stack are unchanged.`);
      expect(await servers("-a")).toBe("");
    } else await vi.waitFor(async () => expect(await servers()).toBe(""), { timeout: 30_000, interval: 100 });
  });

  test("imports the rows, proves them equal, and leaves the volume unchanged", async () => {
    const before = await contentOf();
    await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
    const said = await adopt(volume);
    beforeAdopting = RESTORE_HINT.exec(said.text)?.[1] ?? said.text;
    expect(said.text).toMatch(/1 tables, 1,000 rows, .* proven equal/);
    expect(said.code).toBe(0);
    expect(await contentOf()).toBe(before);
    await stack.as("app", async (client) => {
      expect((await client.query("SELECT count(*)::int AS n FROM ships")).rows).toEqual([{ n: 1000 }]);
    });
    expect(await docker(["ps", "-aq", "--filter", "label=sectorwars.adopt", "--filter", `name=${stack.name}`])).toBe(
      "",
    );
    // The next update changes nothing and imports nothing.
    await stack.up("--expect-no-changes");
    // `backups: auto` reads this from the state.
    await stack.succeed("refresh", "--yes", "--skip-preview", "--stack", stack.name);
    const exported = await stack.succeed("stack", "export", "--stack", stack.name);
    expect(recordedData(stateResources(exported.stdout))).toEqual({ hasBackups: true, isPrecious: true });
  });

  test("refuses to overwrite data", async () => {
    const again = await adopt(volume);
    expect(again.text).toContain("already contains an import from");
    await stack.as("superuser", (client) => client.query("DROP TABLE sectorwars_stack.import"));
    const refused = await adopt(volume);
    expect(refused.text).toContain("is not empty");
    expect(refused.code).toBe(1);
  });

  test("can be undone by a restore to the time before it, and so can the import of a further database", async () => {
    expect(await backed.succeed("restore", "--to", beforeAdopting, "--dry-run")).toContain("Dry run");
    const { urls } = await stack.outputs();
    await stack.succeed("config", "set", "--path", "databases[0]", "east", "--stack", stack.name);
    stack.env.NEON_DATABASE_URL_EAST = `${urls.superuser.replace("127.0.0.1", "localhost")}?sslmode=disable`;
    const { text } = await stack.up();
    delete stack.env.NEON_DATABASE_URL_EAST;
    expect(text).toMatch(/east: import: .* proven equal/);
    const beforeEast = new RegExp(`east: ${RESTORE_HINT.source}`).exec(text)?.[1] ?? text;
    const ships = async (database: string) =>
      withConnection({ ...urlAddress(urls.superuser), database }, async (client) => {
        const { rows } = await client.query(
          "SELECT CASE WHEN to_regclass('ships') IS NOT NULL THEN 'there' END AS ships",
        );
        return rows[0].ships;
      });
    expect(await ships("east")).toBe("there");
    // At that time the database exists and is empty.
    await backed.succeed("restore", "--to", beforeEast);
    expect(await ships("east")).toBe(null);
    expect(await ships(urlAddress(urls.superuser).database)).toBe("there");
  });
});
