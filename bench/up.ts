/** Measures the time from nothing to a healthy database, against Compose with the same image. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { composeWords } from "../lib/docker-compose.ts";
import { namesFor } from "../lib/naming.ts";
import { makeStack } from "./pulumi.ts";
import { figure, ratio, type Section, seconds } from "./results.ts";

const run = promisify(execFile);
const STACK = "bench";
const PORT = 15430;

/** A hand-written Compose file with the same image and health check, at an interval of one second. */
const composeFile = (image: string) => `
name: sectorwars-bench
services:
  database:
    image: ${image}
    environment:
      POSTGRES_PASSWORD: bench
      POSTGRES_DB: sectorwars_dev
    ports: ["127.0.0.1:${PORT}:5432"]
    volumes: ["data:/var/lib/postgresql/data"]
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -q -h 127.0.0.1 -U postgres -d sectorwars_dev"]
      interval: 1s
volumes:
  data:
`;

export async function benchUp({ rounds }: { rounds: number }): Promise<Section> {
  const [program, ...first] = composeWords();
  const folder = await mkdtemp(join(tmpdir(), "sectorwars-bench-"));
  const stack = await makeStack(STACK);
  const ups: number[] = [];
  const again: number[] = [];
  const composes: number[] = [];
  try {
    // The first stack builds the image, so that no measurement includes the build.
    await stack.pulumi("up", "--yes", "--skip-preview", "--stack", STACK);
    await writeFile(join(folder, "compose.yaml"), composeFile(`${namesFor(STACK).image}:15`));
    const compose = (...args: string[]) => run(program, [...first, "--project-directory", folder, ...args]);
    await stack.pulumi("destroy", "--yes", "--skip-preview", "--stack", STACK);
    for (let round = 0; round < rounds; round += 1) {
      ups.push(await seconds(() => stack.pulumi("up", "--yes", "--skip-preview", "--stack", STACK)));
      again.push(await seconds(() => stack.pulumi("up", "--yes", "--skip-preview", "--stack", STACK)));
      await stack.pulumi("destroy", "--yes", "--skip-preview", "--stack", STACK);
      composes.push(await seconds(() => compose("up", "--wait", "--quiet-pull")));
      await compose("down", "--volumes", "--timeout", "60");
      console.log(
        `  round ${round + 1}: up ${ups.at(-1)?.toFixed(1)} s, again ${again.at(-1)?.toFixed(1)} s, compose ${composes.at(-1)?.toFixed(1)} s`,
      );
    }
  } finally {
    await stack.end();
    await rm(folder, { recursive: true, force: true });
  }
  return {
    title: "From nothing to healthy",
    about:
      "`pulumi up` of an empty stack (network, volume, image, container, five roles, extensions, privileges), and again without " +
      "changes, against `docker compose up --wait` of the same image, which creates neither roles nor privileges.",
    table: [
      ["what", "seconds", "against Compose"],
      ["`docker compose up --wait`", figure(composes), "1"],
      ["`pulumi up` from nothing", figure(ups), ratio(ups, composes)],
      ["`pulumi up` again", figure(again), ratio(again, composes)],
    ],
  };
}
