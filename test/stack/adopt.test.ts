/** A volume that docker compose made is taken over through the import, and stays as it was. */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { docker } from "../../lib/docker.ts";
import { run, TestStack } from "./test-stack.ts";

const id = randomBytes(4).toString("hex");
const volume = `swtest${id}_postgres_data`;
const former = `swtest-${id}-database`;
let stack: TestStack;
let base: string;

const adopt = (...args: string[]) => run("node", ["commands/adopt.ts", "--stack", stack.name, ...args], stack.env);
/** One value for everything in the volume. */
const contentOf = async () => {
  const list = "cd /v && find . -type f -exec sha256sum {} + | sort";
  const text = await docker(["run", "--rm", "-v", `${volume}:/v:ro`, "--entrypoint", "sh", base, "-c", list]);
  return createHash("sha256").update(text).digest("hex");
};

beforeAll(async () => {
  base = JSON.parse(await readFile(".local/images.json", "utf8")).databaseBase;
  stack = await TestStack.make({ bootstrap: "empty", memory: "512" });
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
  test("refuses a volume in use, one that is not there, and the stack's own", async () => {
    const inUse = await adopt(volume);
    expect(inUse.text).toContain(
      `The container ${former} uses the volume ${volume}. Stop it first: docker stop ${former}`,
    );
    expect(inUse.code).toBe(1);
    expect((await adopt("swtest-no-such-volume")).text).toContain("There is no volume swtest-no-such-volume");
    expect((await adopt()).text).toContain("Name the volume");
    expect((await adopt(stack.names.volume)).text).toContain("is this stack's own volume");
  });

  test.each(["SIGINT", "SIGKILL"] as const)("ended by %s takes its server with it", async (signal) => {
    await docker(["kill", former]).catch(() => {});
    const servers = (...flags: string[]) =>
      docker(["ps", "-q", ...flags, "--filter", "label=sectorwars.adopt", "--filter", `name=${stack.name}`]);
    const child = spawn("node", ["commands/adopt.ts", "--stack", stack.name, volume], {
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
      expect(said).toContain(`Stopped. ${volume} is as it was, and so is the stack.`);
      expect(await servers("-a")).toBe("");
    } else await vi.waitFor(async () => expect(await servers()).toBe(""), { timeout: 30_000, interval: 100 });
  });

  test("brings the rows with proof, and leaves the volume as it was", async () => {
    const before = await contentOf();
    const said = await adopt(volume);
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
  });

  test("does not overwrite what is there", async () => {
    const again = await adopt(volume);
    expect(again.text).toContain("was imported before");
    await stack.as("superuser", (client) => client.query("DROP TABLE sectorwars_stack.import"));
    const refused = await adopt(volume);
    expect(refused.text).toContain("is not empty");
    expect(refused.code).toBe(1);
  });
});
