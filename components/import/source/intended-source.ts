/**
 * Detects that a stack without a chosen source was meant for Neon. `bootstrap: auto` imports the sample if NEON_DATABASE_URL is not set;
 * a user who forgot or misspelt the variable must not get the sample's rows in place of their own.
 */
import type pg from "pg";
import { editDistance } from "../../../lib/nearest.ts";
import { bareUrl } from "../../../lib/pasted-url.ts";
import { isOwnTable, STACK_SCHEMA } from "../../../lib/stack-schema.ts";

const VARIABLE = "NEON_DATABASE_URL";
const ATTEMPTS = "neon_attempts";

const CHOOSE_SAMPLE = "If you want the sample's rows: pulumi config set bootstrap sample";

/** Returns the host of a PostgreSQL URL; undefined for any other text. */
function hostOf(text: string): string | undefined {
  const bare = bareUrl(text);
  if (!/^postgres(ql)?:\/\//.test(bare) || !URL.canParse(bare)) return undefined;
  return new URL(bare).hostname;
}

/** Most wrong letters in a name that counts as a misspelling. */
const LETTERS_WRONG = 2;

/**
 * Finds an environment variable that was probably meant to be NEON_DATABASE_URL: a similar name, a connection URL in a variable whose
 * name contains NEON, or a URL of a Neon server. Pure.
 */
export function findLookalike(environment: Readonly<Record<string, string | undefined>>): string | undefined {
  const names = Object.keys(environment).sort();
  return names.find((name) => {
    const value = environment[name] ?? "";
    // NEON_DATABASE_URL_GAME is the source of the further database `game`.
    if (value === "" || name === VARIABLE || name.startsWith(`${VARIABLE}_`)) return false;
    if (editDistance(name.toUpperCase(), VARIABLE) <= LETTERS_WRONG) return true;
    const host = hostOf(value);
    return host !== undefined && (/NEON/i.test(name) || /\.neon\.(tech|build)$/.test(host));
  });
}

/**
 * Refuses the sample if the environment or an earlier update of the stack points to Neon.
 * @param client a superuser's session in the maintenance database.
 */
export async function refuseUnintendedSample(client: pg.Client, database: string): Promise<void> {
  const lookalike = findLookalike(process.env);
  if (lookalike !== undefined) {
    throw new Error(
      `${VARIABLE} is not set, but ${lookalike} is, which was probably meant instead. To import from there: ` +
        `export ${VARIABLE}="$${lookalike}". ${CHOOSE_SAMPLE}`,
    );
  }
  if (!(await isOwnTable(client, ATTEMPTS))) return;
  const { rows } = await client.query(`SELECT FROM ${STACK_SCHEMA}.${ATTEMPTS} WHERE database = $1`, [database]);
  if (rows.length === 0) return;
  throw new Error(
    `An earlier update of this stack tried to import from Neon, and ${VARIABLE} is not set now. Set it again: ` +
      `export ${VARIABLE}='postgresql://user:password@host/database'. ${CHOOSE_SAMPLE}`,
  );
}

/**
 * Records that the user intends a stack's data to come from Neon. The record is in the maintenance database, is deleted with the volume, and has no
 * effect after an import.
 * @param client a superuser's session in the maintenance database.
 */
export async function noteNeonAttempt(client: pg.Client, database: string): Promise<void> {
  await client.query(`
    CREATE SCHEMA IF NOT EXISTS ${STACK_SCHEMA};
    REVOKE ALL ON SCHEMA ${STACK_SCHEMA} FROM PUBLIC;
    CREATE TABLE IF NOT EXISTS ${STACK_SCHEMA}.${ATTEMPTS} (database text PRIMARY KEY)`);
  await client.query(`INSERT INTO ${STACK_SCHEMA}.${ATTEMPTS} VALUES ($1) ON CONFLICT DO NOTHING`, [database]);
}
