/** Tools without anything from this project, for a restore with only the files. */
import { createHash } from "node:crypto";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { docker } from "../../lib/docker.ts";
import { images, type Lab, type Server } from "./lab.ts";

const DOCKERFILE = `ARG BASE
FROM \${BASE}
RUN if command -v age && command -v zstd; then :; \\
    elif command -v apk; then apk add --no-cache age zstd; \\
    else apt-get update -q && apt-get install -qy --no-install-recommends age zstd; fi
`;

/** An image with age, zstd and the stack's version of PostgreSQL. It is kept as a cache for this base. */
export async function handToolsImage(): Promise<string> {
  const { databaseBase } = images();
  // Two clones may build on different bases at the same time.
  const image = `sectorwars-test-hand-tools:${createHash("sha256").update(databaseBase).digest("hex").slice(0, 8)}`;
  await docker(["build", "-q", "-t", image, "--build-arg", `BASE=${databaseBase}`, "-"], {
    input: DOCKERFILE,
    timeoutMs: 120_000,
  });
  return image;
}

/** A container with a safety copy and its identity, and nothing else from this project. */
export interface Hands {
  container: string;
  /** Runs the copy's restore.sh. Returns its output. */
  restore: () => Promise<string>;
}

/** Starts a container with age, zstd and psql, to restore a safety copy. The lab removes it. */
export async function handsFor(
  lab: Lab,
  server: Server,
  { copy, identityFile, database }: { copy: string; identityFile: string; database: string },
): Promise<Hands> {
  const container = `${lab.id}-hands-${database}`;
  const hands = join(lab.folder, container);
  await cp(copy, join(hands, "copy"), { recursive: true });
  await cp(identityFile, join(hands, "identity.txt"));
  await writeFile(join(hands, "pgpass"), `*:*:*:*:${server.admin.password}\n`, { mode: 0o600 });
  const variables = { PGHOST: server.alias, PGUSER: "postgres", PGDATABASE: database, PGPASSFILE: "/hands/pgpass" };
  await docker([
    ...[
      "create",
      "--name",
      container,
      "--label",
      `sectorwars.test.run=${lab.id}`,
      "--network",
      lab.id,
      "--user",
      "root",
    ],
    ...Object.entries(variables).flatMap(([key, value]) => ["-e", `${key}=${value}`]),
    ...["--entrypoint", "sleep", await handToolsImage(), "600"],
  ]);
  await docker(["cp", `${hands}/.`, `${container}:/hands`]);
  await docker(["start", container]);
  await docker(["exec", container, "chown", "-R", "root:root", "/hands"]);
  return {
    container,
    restore: () => docker(["exec", container, "/hands/copy/restore.sh", "/hands/identity.txt"]),
  };
}
