/** Creates or adopts the backups' repository, once. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { DockerError, docker } from "../../lib/docker.ts";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import type { BackupRepositoryInputs } from "./backups.ts";

const DATA = "/var/lib/postgresql/data";
/** Exists once WAL has been archived. Without it, an empty repository is a new one. */
const BEGAN = `${DATA}/archiving-began`;
/** Files in which the image's scripts record the state of archiving into this repository (images/database/sectorwars-backup.sh). */
const NOTES = ["archiving-gaps", "archived-until", "archiving-said"].map((note) => `${DATA}/${note}`);

/** The remedy for a host folder that belongs to another user. */
const FOLDER_REMEDY =
  "If it is a folder that belongs to another user: docker exec -u root CONTAINER chown -R postgres " +
  "/var/lib/sectorwars-backups/repository, then pulumi up.";

/** Reasons and remedies, by the number of pgBackRest's error. */
const REMEDIES: ReadonlyArray<readonly [string, string]> = [
  [
    "[028]",
    "The repository contains backups of another database, and backups of two databases cannot share a repository. To restore that " +
      "database: pulumi config set bootstrap backup, in a new stack. To use another repository: pulumi config set backupRepository " +
      "FOLDER. Or move the old backups to another folder.",
  ],
  [
    "[055]",
    "The repository contains backups, but its archive.info is missing. Restore it from a copy of the repository.",
  ],
  ["[029]", "The repository was encrypted with another key. Put the right key file in place (docs/recovery.md)."],
  ["[041]", `The server's user cannot read or write the repository. ${FOLDER_REMEDY}`],
  ["[047]", `The server's user cannot write to the repository. ${FOLDER_REMEDY}`],
];

/** Creates the repository. The container then takes the first full backup by itself, and the update does not wait for it. */
async function begin({ container, dockerHost: host }: BackupRepositoryInputs, anew: boolean): Promise<void> {
  try {
    await docker(["exec", container, "sectorwars-backup", "init", ...(anew ? ["anew"] : [])], { host });
  } catch (error) {
    const said = error instanceof DockerError ? error.stderr.trim() : (error as Error).message;
    const remedy = REMEDIES.find(([code]) => said.includes(code))?.[1].replace("CONTAINER", container);
    throw new Error(`${container} could not create the backups' repository: ${said}${remedy ? `\n${remedy}` : ""}`);
  }
}

/** An update creates a repository again only if the setting names another one. */
export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,

  async create(inputs: BackupRepositoryInputs) {
    await begin(inputs, false);
    return { id: inputs.container, outs: { ...inputs, fingerprint: inputsFingerprint({ ...inputs }) } };
  },

  async update(_id, olds: BackupRepositoryInputs, news: BackupRepositoryInputs) {
    if (olds.folder !== news.folder) await begin(news, true);
    return { outs: { ...news, fingerprint: inputsFingerprint({ ...news }) } };
  },

  /** If the backups are deleted too, the next stack on this data volume must not report a missing repository. */
  async delete(_id, { server, folder, keep, dockerHost: host }: BackupRepositoryInputs) {
    if (keep) return;
    // Pulumi does not delete a folder or a store, so its gaps must still be known when another stack uses it.
    const notes = folder === undefined ? [BEGAN, ...NOTES] : [BEGAN];
    await docker(["exec", server, "rm", "-f", ...notes], { host }).catch(() => {});
  },
};
