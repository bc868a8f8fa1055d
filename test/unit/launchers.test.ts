import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findLaunchers, launchersIn } from "../../components/handover/launchers.ts";

const lines = (text: string) => launchersIn("x", text).map(({ line }) => line);

test.each([
  "docker compose -f docker-compose.yml up",
  "docker-compose --profile dev -f a.yml up -d",
  "exec docker compose --env-file .env --file=deploy/dev.yml up",
  "\tdocker compose $(FLAGS) -f a.yml up",
  'FILES="-f docker-compose.yml -f docker-compose.dev.yml"',
  '"start": "docker compose -f compose.dev.yaml up"',
  'subprocess.run(["docker", "compose", "-f", "docker-compose.yml", "up"])',
  "export COMPOSE_FILE=a.yml:b.yml",
  "$env:COMPOSE_FILE = 'a.yml'",
  '  "dockerComposeFile": "../docker-compose.yml",',
])("%j starts docker compose with its own files", (line) => {
  expect(lines(line)).toEqual([1]);
});

test.each([
  "docker compose up -d",
  "docker compose logs -f gameserver",
  "docker-compose rm -f",
  "docker compose --profile dev exec -f x",
  "# docker compose -f docker-compose.yml up",
  "echo $COMPOSE_FILE",
  "docker build -f Dockerfile .",
  "rm -f docker-compose.log",
  "tail -f x.yml",
])("%j does not start docker compose with its own files", (line) => {
  expect(lines(line)).toEqual([]);
});

test("findLaunchers returns scripts in the usual folders with the Compose files that they name", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
  try {
    const write = async (path: string, text: string) => {
      await mkdir(join(folder, path, ".."), { recursive: true });
      await writeFile(join(folder, path), text);
    };
    const call = "docker compose -f docker-compose.dev.yml up\n";
    for (const path of [
      "Makefile",
      "dev-scripts/start.sh",
      "node_modules/x/run.sh",
      ".git/hooks/x.sh",
      "src/a/b/c/d.sh",
    ])
      await write(path, `\n${call}`);
    await write(".devcontainer/devcontainer.json", '{"dockerComposeFile": ["../docker-compose.yml"]}');
    await write("README.md", call);
    expect(await findLaunchers(folder)).toEqual([
      { file: ".devcontainer/devcontainer.json", line: 1, composeFiles: ["../docker-compose.yml"] },
      { file: "Makefile", line: 2, composeFiles: ["docker-compose.dev.yml"] },
      { file: "dev-scripts/start.sh", line: 2, composeFiles: ["docker-compose.dev.yml"] },
    ]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
