/** The images that script/bootstrap found or built, and those that are pulled where it wrote down none. */
import { readFileSync } from "node:fs";

/** Images that the machine has. */
export interface KnownImages {
  databaseBase?: string;
  newerPostgres?: string;
  python?: string;
}

const OFFICIAL_BASE = "postgres:15-alpine";
const OFFICIAL_NEWER = "postgres:18-alpine";
const OFFICIAL_PYTHON = "python:3.13-slim";

/** PostgreSQL 15, which the database image is built on. */
export const baseImage = (images: KnownImages): string => images.databaseBase ?? OFFICIAL_BASE;
/** An image with a pg_dump that reads sources newer than 15. */
export const newerImage = (images: KnownImages): string => images.newerPostgres ?? OFFICIAL_NEWER;
/** Python, which the project's own migrations image is built on. */
export const pythonImage = (images: KnownImages): string => images.python ?? OFFICIAL_PYTHON;

/**
 * Reads what script/bootstrap wrote down; a machine that pulls the official images has no such file.
 * @throws {Error} for a file that cannot be read, with the remedy.
 */
export function readImages(): KnownImages {
  try {
    return JSON.parse(readFileSync(".local/images.json", "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new Error(`.local/images.json cannot be read (${(error as Error).message}); run script/bootstrap again`);
  }
}
