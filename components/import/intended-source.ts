/**
 * Which source a stack without a chosen one was meant for. `bootstrap: auto` takes the sample where NEON_DATABASE_URL is not set; someone
 * who forgot or misspelt the variable must not get the sample's rows in place of their own.
 */
import type pg from "pg";
import { editDistance } from "../../lib/nearest.ts";
import { bareUrl } from "../../lib/pasted-url.ts";
import { isOwnTable, STACK_SCHEMA } from "../../lib/stack-schema.ts";

const VARIABLE = "NEON_DATABASE_URL";
const ATTEMPTS = "neon_attempts";

const CHOOSE_SAMPLE = "If you want the sample's rows: pulumi config set bootstrap sample";

/** The host of a PostgreSQL URL; undefined for any other text. */
function hostOf(text: string): string | undefined {
  const bare = bareUrl(text);
  if (!/^postgres(ql)?:\/\//.test(bare) || !URL.canParse(bare)) return undefined;
  return new URL(bare).hostname;
}

/** Letters that may be wrong in a variable's name that is taken for a misspelling. */
const LETTERS_WRONG = 2;

/**
 * Finds a variable of the environment that seems to be meant for NEON_DATABASE_URL: a name that is nearly the same, a connection URL whose
 * variable speaks of Neon, or a URL of a Neon server. Pure.
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
 * Refuses the sample where the environment or an earlier update of the stack speaks of Neon.
 * @param client a superuser's session in the server's own database.
 */
export async function refuseUnintendedSample(client: pg.Client, database: string): Promise<void> {
  const lookalike = findLookalike(process.env);
  if (lookalike !== undefined) {
    throw new Error(
      `${VARIABLE} is not set, but ${lookalike} is, which looks as if it was meant. To import from there: ` +
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
 * Records that a stack's data is to come from Neon. The note lies in the server's own database, goes with the volume, and has no meaning
 * once something was imported.
 * @param client a superuser's session in the server's own database.
 */
export async function noteNeonAttempt(client: pg.Client, database: string): Promise<void> {
  await client.query(`
    CREATE SCHEMA IF NOT EXISTS ${STACK_SCHEMA};
    REVOKE ALL ON SCHEMA ${STACK_SCHEMA} FROM PUBLIC;
    CREATE TABLE IF NOT EXISTS ${STACK_SCHEMA}.${ATTEMPTS} (database text PRIMARY KEY)`);
  await client.query(`INSERT INTO ${STACK_SCHEMA}.${ATTEMPTS} VALUES ($1) ON CONFLICT DO NOTHING`, [database]);
}
