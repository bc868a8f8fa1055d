/** Measures the time from nothing to a working application: database, migrations, seed data, hand-over, four healthy services. */
import { execFile } from "node:child_process";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { composeWords } from "../lib/docker-compose.ts";
import { pythonImage, readImages } from "../lib/images.ts";
import { makeStack } from "./pulumi.ts";
import { figure, type Section, seconds } from "./results.ts";

const run = promisify(execFile);
const STACK = "bench";
const PROJECT = "sectorwars-bench";

export async function benchApplication({ rounds }: { rounds: number }): Promise<Section> {
  const [program, ...first] = composeWords();
  const folder = await mkdtemp(join(tmpdir(), "sectorwars-bench-"));
  // The update needs these variables too, because it builds the gameserver's image.
  Object.assign(process.env, { COMPOSE_PROJECT_NAME: PROJECT, PYTHON_IMAGE: pythonImage(readImages()) });
  const stack = await makeStack(STACK);
  const compose = (...args: string[]) => run(program, [...first, ...args], { cwd: folder });
  const up = () => stack.pulumi("up", "--yes", "--skip-preview", "--stack", STACK);
  const down = () => stack.pulumi("destroy", "--yes", "--skip-preview", "--stack", STACK);
  const times = { all: [] as number[], up: [] as number[], services: [] as number[] };
  try {
    await cp("test/application", folder, { recursive: true });
    await writeFile(join(folder, ".env"), "JWT_SECRET=of-the-benchmark\n", { mode: 0o600 });
    await stack.pulumi("config", "set", "alembic", join(folder, "services/gameserver"), "--stack", STACK);
    await stack.pulumi("config", "set", "handoverFolder", folder, "--stack", STACK);
    // The first stack builds the images, so that no measured round does.
    await up();
    await down();
    for (let round = 0; round < rounds; round += 1) {
      const upSeconds = await seconds(up);
      const serviceSeconds = await seconds(() => compose("up", "--wait", "--detach"));
      times.up.push(upSeconds);
      times.services.push(serviceSeconds);
      times.all.push(upSeconds + serviceSeconds);
      await compose("down", "--timeout", "0");
      await down();
      console.log(`  round ${round + 1}: up ${upSeconds.toFixed(1)} s, services ${serviceSeconds.toFixed(1)} s`);
    }
  } finally {
    await compose("down", "--timeout", "0").catch(() => {});
    await stack.end();
    await rm(folder, { recursive: true, force: true });
  }
  return {
    title: "From nothing to a working application",
    about:
      "`pulumi up` (server, roles, privileges, migrations in their own container, seed data, databases, hand-over), then `docker compose " +
      "up --wait` of four services: a gameserver with two SQLAlchemy engines, a region manager, two pages (test/application).",
    table: [
      ["what", "seconds"],
      ["total", figure(times.all)],
      ["`pulumi up`", figure(times.up)],
      ["four services healthy", figure(times.services)],
    ],
  };
}
