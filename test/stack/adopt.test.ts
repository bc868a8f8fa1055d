/**
 * A volume that docker compose made is taken over through the import, and stays as it was. The stack has backups: before this
 * import, and that of a further database, the way back is told.
 */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { recordedData } from "../../components/backups/auto.ts";
import { docker } from "../../lib/docker.ts";
import { stateResources } from "../../lib/stack-state.ts";
import { withConnection } from "../support/session.ts";
import { BackedUp, until } from "./backed-up.ts";
import { TestStack, urlAddress } from "./test-stack.ts";

const id = randomBytes(4).toString("hex");
const volume = `swtest${id}_postgres_data`;
const former = `swtest-${id}-database`;
let stack: TestStack;
let backed: BackedUp;
let base: string;

/** The moment before an import, as it is told. */
const TOLD =
  /to have all databases of the server as they are now back from the backups: \.\/db restore --to (\S+) --stack/;
const adopt = (...args: string[]) => stack.db("adopt", ...args);
/** One value for everything in the volume. */
const contentOf = async () => {
  const list = "cd /v && find . -type f -exec sha256sum {} + | sort";
  const text = await docker(["run", "--rm", "-v", `${volume}:/v:ro`, "--entrypoint", "sh", base, "-c", list]);
  return createHash("sha256").update(text).digest("hex");
};

beforeAll(async () => {
  base = JSON.parse(await readFile(".local/images.json", "utf8")).databaseBase;
  const never = { backupFull: "never", backupDifferential: "never", backupDrill: "never" };
  stack = await TestStack.make({ bootstrap: "empty", memory: "512", backups: "true", ...never });
  backed = new BackedUp(stack);
  // Beside the other server's start.
  const up = stack.up();
  up.catch(() => {});
  // As docker compose starts it, and killed rather than stopped: a laptop that ran out of battery.
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

  test("refuses a volume in use, one that is not there, and the stack's own", async () => {
    const inUse = await adopt(volume);
    expect(inUse.text).toContain(
      `The container ${former} uses the volume ${volume}. Stop it first: docker stop ${former}`,
    );
    expect(inUse.code).toBe(1);
    expect((await adopt("swtest-no-such-volume")).text).toContain("The volume swtest-no-such-volume does not exist");
    expect((await adopt()).text).toContain("missing required argument 'volume'");
    expect((await adopt(stack.names.volume)).text).toContain("is this stack's own volume");
  });

  test.each(["SIGINT", "SIGKILL"] as const)("ended by %s takes its server with it", async (signal) => {
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

  test("brings the rows with proof, and leaves the volume as it was", async () => {
    const before = await contentOf();
    await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
    const said = await adopt(volume);
    beforeAdopting = TOLD.exec(said.text)?.[1] ?? said.text;
    expect(said.text).toMatch(/1 tables, 1,000 rows, .* proven equal/);
    expect(said.code).toBe(0);
    expect(await contentOf()).toBe(before);
    await stack.as("app", async (client) => {
      expect((await client.query("SELECT count(*)::int AS n FROM ships")).rows).toEqual([{ n: 1000 }]);
    });
    expect(await docker(["ps", "-aq", "--filter", "label=sectorwars.adopt", "--filter", `name=${stack.name}`])).toBe(
      "",
    );
    // The update that follows finds nothing to do, and imports nothing.
    await stack.up("--expect-no-changes");
    // With the setting auto, it is this record that counts.
    await stack.succeed("refresh", "--yes", "--skip-preview", "--stack", stack.name);
    const exported = await stack.succeed("stack", "export", "--stack", stack.name);
    expect(recordedData(stateResources(exported.stdout))).toEqual({ hasBackups: true, isPrecious: true });
  });

  test("does not overwrite what is there", async () => {
    const again = await adopt(volume);
    expect(again.text).toContain("was imported before");
    await stack.as("superuser", (client) => client.query("DROP TABLE sectorwars_stack.import"));
    const refused = await adopt(volume);
    expect(refused.text).toContain("is not empty");
    expect(refused.code).toBe(1);
  });

  test("the moment before it can be had back, and so can the one before a further database is filled", async () => {
    expect(await backed.succeed("restore", "--to", beforeAdopting, "--dry-run")).toContain("Dry run");
    const { urls } = await stack.outputs();
    await stack.succeed("config", "set", "--path", "databases[0]", "east", "--stack", stack.name);
    stack.env.NEON_DATABASE_URL_EAST = `${urls.superuser.replace("127.0.0.1", "localhost")}?sslmode=disable`;
    const { text } = await stack.up();
    delete stack.env.NEON_DATABASE_URL_EAST;
    expect(text).toMatch(/east: import: .* proven equal/);
    const beforeEast = new RegExp(`east: ${TOLD.source}`).exec(text)?.[1] ?? text;
    const ships = async (database: string) =>
      withConnection({ ...urlAddress(urls.superuser), database }, async (client) => {
        const { rows } = await client.query(
          "SELECT CASE WHEN to_regclass('ships') IS NOT NULL THEN 'there' END AS ships",
        );
        return rows[0].ships;
      });
    expect(await ships("east")).toBe("there");
    // It is there by then, and empty: what fills it comes after the moment.
    await backed.succeed("restore", "--to", beforeEast);
    expect(await ships("east")).toBe(null);
    expect(await ships(urlAddress(urls.superuser).database)).toBe("there");
  });
});
