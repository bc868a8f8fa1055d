/** The images that script/bootstrap found or built, and the official ones that Docker pulls otherwise. */
import { readFileSync } from "node:fs";

/** Images on this machine. */
export interface KnownImages {
  databaseBase?: string;
  newerPostgres?: string;
  python?: string;
  pooler?: string;
}

const OFFICIAL_BASE = "postgres:15-alpine";
const OFFICIAL_NEWER = "postgres:18-alpine";
const OFFICIAL_PYTHON = "python:3.13-slim";
const OFFICIAL_POOLER = "debian:trixie-slim";

/** The image with PostgreSQL 15 that the database image is built on. */
export const baseImage = (images: KnownImages): string => images.databaseBase ?? OFFICIAL_BASE;
/** An image with a pg_dump for sources newer than PostgreSQL 15. */
export const newerImage = (images: KnownImages): string => images.newerPostgres ?? OFFICIAL_NEWER;
/** The Python image that the project's own migrations image is built on. */
export const pythonImage = (images: KnownImages): string => images.python ?? OFFICIAL_PYTHON;
/** The image that the pooler's image is built on: with PgBouncer from Debian's packages, or Debian itself. */
export const poolerBase = (images: KnownImages): string => images.pooler ?? OFFICIAL_POOLER;

/**
 * Reads the file that script/bootstrap wrote. A machine that pulls the official images has no such file.
 * @throws {Error} with the remedy, if the file cannot be read.
 */
export function readImages(): KnownImages {
  try {
    return JSON.parse(readFileSync(".local/images.json", "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new Error(`.local/images.json cannot be read (${(error as Error).message}). Run script/bootstrap again`);
  }
}
