/** Tools that have nothing of this project's: what somebody restores with who has only the files. */
import { createHash } from "node:crypto";
import { docker } from "../../lib/docker.ts";
import { images } from "./lab.ts";

const DOCKERFILE = `ARG BASE
FROM \${BASE}
RUN if command -v age && command -v zstd; then :; \\
    elif command -v apk; then apk add --no-cache age zstd; \\
    else apt-get update -q && apt-get install -qy --no-install-recommends age zstd; fi
`;

/** An image with age, zstd and a PostgreSQL of the stack's version; it stays, as a cache for this base. */
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
