/**
 * Returns the name of the environment's variable with the URL from which a further database is filled, for instance
 * NEON_DATABASE_URL_NEXUS for `nexus`.
 */
export const sourceVariable = (database: string): string => `NEON_DATABASE_URL_${database.toUpperCase()}`;
