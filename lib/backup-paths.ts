/** Paths of the backups inside the containers. */

/** The mount point of the volume with the backups. */
export const STORE = "/var/lib/sectorwars-backups";
/** The repository of pgBackRest, inside {@link STORE}. A folder of the host is mounted here if one is configured. */
export const REPOSITORY = `${STORE}/repository`;
