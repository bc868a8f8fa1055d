/** Begins to use a repository, once. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { DockerError, docker } from "../../lib/docker.ts";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import type { BackupsBegunInputs } from "./backups.ts";

const DATA = "/var/lib/postgresql/data";
/** That something was ever archived; without it, an empty repository is a new one. */
const BEGAN = `${DATA}/archiving-began`;
/** What is known of a repository that goes with its volume (images/database/sectorwars-backup.sh). */
const NOTES = ["archiving-gaps", "archived-until", "archiving-said"].map((note) => `${DATA}/${note}`);

/** For a folder of the host's that belongs to somebody there. */
const FOLDER_REMEDY =
  "Where it is a folder that belongs to somebody else: docker exec -u root CONTAINER chown -R postgres " +
  "/var/lib/sectorwars-backups/repository, then pulumi up.";

/** What pgBackRest says, by its error's number, and what to do about it. */
const REMEDIES: ReadonlyArray<readonly [string, string]> = [
  [
    "[028]",
    "The repository holds backups of another database: nothing is ever mixed with them. To have that database back: " +
      "pulumi config set bootstrap backup in a new stack. To leave it: pulumi config set backupRepository to another folder, " +
      "or move the old backups away.",
  ],
  ["[055]", "The repository holds backups, but lost its archive.info. Bring it back from a copy of the repository."],
  ["[029]", "The repository was encrypted by another key. Put the right key file in place (docs/recovery.md)."],
  ["[041]", `The server's user cannot read or write the repository. ${FOLDER_REMEDY}`],
  ["[047]", `The server's user cannot write the repository. ${FOLDER_REMEDY}`],
];

/** Begins the repository. The first full backup follows by itself: nobody waits for it here. */
async function begin({ container, dockerHost: host }: BackupsBegunInputs, anew: boolean): Promise<void> {
  try {
    await docker(["exec", container, "sectorwars-backup", "init", ...(anew ? ["anew"] : [])], { host });
  } catch (error) {
    const said = error instanceof DockerError ? error.stderr.trim() : (error as Error).message;
    const remedy = REMEDIES.find(([code]) => said.includes(code))?.[1].replace("CONTAINER", container);
    throw new Error(`Backups cannot begin in ${container}: ${said}${remedy ? `\n${remedy}` : ""}`);
  }
}

/** Once begun, a repository is never begun again by an update, unless the setting names another. */
export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,

  async create(inputs: BackupsBegunInputs) {
    await begin(inputs, false);
    return { id: inputs.container, outs: { ...inputs, fingerprint: inputsFingerprint({ ...inputs }) } };
  },

  async update(_id, olds: BackupsBegunInputs, news: BackupsBegunInputs) {
    if (olds.folder !== news.folder) await begin(news, true);
    return { outs: { ...news, fingerprint: inputsFingerprint({ ...news }) } };
  },

  /** A volume that goes with its backups is no loss to be told of when its successor begins. */
  async delete(_id, { server, folder, keep, dockerHost: host }: BackupsBegunInputs) {
    if (keep) return;
    // A folder or a store is not removed: what it lacks by then must still be known when it is used again.
    const notes = folder === undefined ? [BEGAN, ...NOTES] : [BEGAN];
    await docker(["exec", server, "rm", "-f", ...notes], { host }).catch(() => {});
  },
};
