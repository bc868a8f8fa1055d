/** Where hand-over files lie. */
import { join } from "node:path";

/** Names that docker compose looks for by itself, in its order. */
export const COMPOSE_NAMES = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"] as const;
/** Names of the override that it adds by itself. */
export const OVERRIDE_NAMES = [
  "compose.override.yaml",
  "compose.override.yml",
  "docker-compose.override.yaml",
  "docker-compose.override.yml",
] as const;

/** The Compose file that a stack lays over the application's. It lies with the stack: the application's folder stays as it is. */
export const overrideFile = (project: string, stack: string): string =>
  join(project, ".local", "handover", stack, "compose.yaml");
