/** Builds the stack's own images. */
import type * as docker from "@pulumi/docker";
import { folderHash } from "../../lib/folder-hash.ts";

/**
 * Returns what a RemoteImage is built from, and what triggers a new build.
 * @param folder the folder with the Dockerfile.
 * @param base the image to build on, the Dockerfile's argument BASE.
 * @param elsewhere whether the engine may differ from the docker command's. The provider builds with BuildKit on the docker command's
 *   engine, whatever its own host is (kreuzwerker/docker, docker_cli.go); only its legacy builder uses that host.
 * @param more further arguments of the Dockerfile.
 */
export const buildOf = (
  folder: string,
  base: string,
  elsewhere: boolean,
  more: Record<string, string> = {},
): Pick<docker.RemoteImageArgs, "build" | "triggers"> => ({
  build: {
    context: folder,
    buildArgs: { BASE: base, ...more },
    dockerfile: "Dockerfile",
    ...(elsewhere ? { useLegacyBuilder: true } : {}),
  },
  triggers: { base, files: folderHash(folder), ...more },
});
