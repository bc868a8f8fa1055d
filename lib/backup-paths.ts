/** Where backups are inside the containers. */

/** Where the volume with the backups is mounted. */
export const STORE = "/var/lib/sectorwars-backups";
/** Where pgBackRest writes, inside {@link STORE}; a folder of the host's is mounted here. */
export const REPOSITORY = `${STORE}/repository`;
