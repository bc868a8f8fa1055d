/** Reads the source from the environment. */
import { readFile } from "node:fs/promises";
import type { Source } from "../types.ts";
import { parseSourceUrl } from "./source-url.ts";

/**
 * Reads the URL, and NEON_ROOT_CERTIFICATES.
 * @param wanted why the URL is needed, for the error if it is not set.
 * @param variable the variable with the URL. An argument would show in ps and stay in the shell's history.
 * @throws {Error} that says what is missing or wrong, without quoting the URL.
 */
export async function sourceFromEnvironment(wanted: string, variable = "NEON_DATABASE_URL"): Promise<Source> {
  const url = process.env[variable];
  if (!url) {
    throw new Error(
      `${wanted}, but ${variable} is not set. Copy the connection string from the Neon console: ` +
        `export ${variable}='postgresql://user:password@host/database'`,
    );
  }
  return parseSourceUrl(url, await extraRoots());
}

/** Reads root certificates for a source with a private certificate authority, like libpq's PGSSLROOTCERT. */
async function extraRoots(): Promise<string | undefined> {
  const file = process.env.NEON_ROOT_CERTIFICATES;
  if (!file) return undefined;
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new Error(`NEON_ROOT_CERTIFICATES names ${file}, which cannot be read: ${(error as Error).message}`);
  }
}
