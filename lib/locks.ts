/** Advisory locks that more than one part of the project must know. */

/**
 * Key of the lock that is held, in the database `postgres`, for as long as the owner has the temporary grant of
 * `session_replication_role`: the letters "sectorwl" as a 64-bit number.
 */
export const TEMPORARY_GRANT_KEY = "8315161638746617708";
