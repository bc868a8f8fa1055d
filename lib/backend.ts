/** The place where Pulumi's file backend stores the state. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** The folder in which Pulumi's file backend stores its files, inside the folder of the backend's URL. */
export const PULUMI_FOLDER = ".pulumi";

/** Returns the backend's URL in Pulumi.yaml. A regular expression does, because every `pulumi up` reads it, and yaml is slow to load. */
function projectUrl(): string {
  try {
    return /^backend:\s+url:\s*["']?([^\s"']+)/m.exec(readFileSync("Pulumi.yaml", "utf8"))?.[1] ?? "";
  } catch {
    return "";
  }
}

/**
 * Returns the path of the project's file backend, as it is written; undefined if another backend stores the state.
 * @param environment its PULUMI_BACKEND_URL overrides Pulumi.yaml, as in Pulumi.
 */
export function backendPath(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const path = /^file:\/\/([^?]*)/.exec(environment.PULUMI_BACKEND_URL || projectUrl())?.[1];
  return path?.replace(/^~(?=\/|$)/, homedir());
}

/** Returns {@link backendPath} as an absolute path. */
export function backendFolder(environment?: NodeJS.ProcessEnv): string | undefined {
  const path = backendPath(environment);
  return path === undefined ? undefined : resolve(path);
}

/** Returns the file in which Pulumi's file backend stores a stack's state. */
export const checkpointFile = (backend: string, project: string, stack: string): string =>
  join(backend, PULUMI_FOLDER, "stacks", project, `${stack}.json`);
