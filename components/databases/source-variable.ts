/**
 * Returns the name of the environment variable with the source URL of a further database, for instance NEON_DATABASE_URL_NEXUS for
 * `nexus`.
 */
export const sourceVariable = (database: string): string => `NEON_DATABASE_URL_${database.toUpperCase()}`;
