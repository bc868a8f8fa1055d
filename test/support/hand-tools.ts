/** Tools that have nothing of this project's: what somebody restores with who has only the files. */
import { docker } from "../../lib/docker.ts";
import { images } from "./lab.ts";

const DOCKERFILE = `ARG BASE
FROM \${BASE}
RUN if command -v apk; then apk add --no-cache age zstd; else apt-get update -q && apt-get install -qy --no-install-recommends age zstd; fi
`;

/** An image with age, zstd and a PostgreSQL of the stack's version; it stays, as a cache. */
export async function handToolsImage(): Promise<string> {
  const image = "sectorwars-test-hand-tools";
  await docker(["build", "-q", "-t", image, "--build-arg", `BASE=${images().databaseBase}`, "-"], {
    input: DOCKERFILE,
    timeoutMs: 120_000,
  });
  return image;
}
