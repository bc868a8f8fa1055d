/**
 * Restores into a running stack: a scratch server restores into a folder beside the data and checks it. When the server next starts, it
 * exchanges the folder and the data by two renames.
 */
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { containerState, DockerError, docker, removeContainer } from "../../lib/docker.ts";
import { humanBytes } from "../../lib/human-bytes.ts";
import { imageLimit } from "../../lib/image-limits.ts";
import { runs } from "../../lib/interrupted.ts";
import { namesFor } from "../../lib/naming.ts";
import { connect, literal, maintenance } from "../../lib/postgres.ts";
import { currentScope, outsideScopes } from "../../lib/scope.ts";
import { passwordVerifier } from "../../lib/scram.ts";
import { serverProgram } from "../../lib/server-programs.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";
import { prepareLogin } from "../pooler/login.ts";
import { poolerPassword, whileHeld } from "../pooler/pooler-container.ts";
import { startReplicas, stopReplicas } from "../server/replica-containers.ts";
import { takeExclusiveLocks } from "../snapshots/snapshots.ts";
import { execInBackupContainer } from "./backup-container.ts";
import { position, type RestorePlan } from "./recovery-target.ts";
import type { BackupReport } from "./report.ts";
import { expiredFolders, retainedDataIn } from "./retained-data.ts";

const DATA = "/var/lib/postgresql/data";
/** The file that requests the exchange; the server carries it out at its next start (images/database/start.sh). */
const REQUEST = `${DATA}/exchange`;
/**
 * A file that names the process that runs the exchange, and the folder for the retained data. It is removed once the roles have their
 * current passwords, so it remains after a killed restore.
 */
const UNDER_WAY = `${DATA}/exchange-under-way`;
/** Bytes that a restore leaves free for the running server, whose WAL keeps growing. */
const ROOM_LEFT = Number(imageLimit("ROOM_LEFT_KB")) * 1024;
/** Milliseconds to wait until the last WAL file is archived. */
const ARCHIVED_WITHIN_MS = 90_000;
/** Failed attempts, a second apart, after which PostgreSQL's archiver pauses for a minute (NUM_ARCHIVE_RETRIES in pgarch.c). */
const ATTEMPTS = 3;
/** The archive command's error, while its attempts fail (images/database/backup/archiving.sh). */
const ARCHIVER_SAID = `${DATA}/archiving-said`;
const STOP_SECONDS = 120;
const READY_WITHIN_MS = 180_000;

/** The result of a restore. */
export interface Restored {
  folder: string;
  tables: number;
  rows: number;
  /** The LSN at which the recovery ended. */
  reached: bigint;
  /** The commit time of the last replayed transaction, as the server prints it; undefined if none was replayed. */
  last: string | undefined;
  /** The damage that the check found. Only a restore with the option `unsound` accepts any. */
  damage: string[];
}

const superuser = (outputs: StackOutputs) => addressOf(outputs.urls.superuser ?? "");

/**
 * Waits until everything written so far is in the repository. A recovery to a time ends at the first later commit, so this commits a
 * transaction first. Returns the LSN up to which WAL is archived.
 * @throws {Error} with the archiver's message, if the WAL is not archived in time or the archiver has failed {@link ATTEMPTS} times.
 */
export async function archiveEverything(client: pg.Client): Promise<bigint> {
  await client.query("SELECT pg_current_xact_id()");
  // Read before the switch, so that a higher count later means that this file or an earlier one failed.
  const before = (await archiverOf(client, "")).failed;
  const { rows } = await client.query<{ file: string; lsn: string }>(
    "SELECT pg_walfile_name(lsn) AS file, lsn::text FROM pg_switch_wal() AS lsn",
  );
  const deadline = Date.now() + ARCHIVED_WITHIN_MS;
  for (;;) {
    const { isArchived, failed } = await archiverOf(client, rows[0]?.file ?? "");
    if (isArchived) return position(rows[0]?.lsn ?? "0/0");
    if (Date.now() > deadline || failed - before >= ATTEMPTS) {
      throw new Error(`the last changes could not be archived${await archiverSaid(client)}`);
    }
    await sleep(200);
  }
}

/** Returns whether the archiver has archived a file, and how often it has failed. */
async function archiverOf(client: pg.Client, file: string): Promise<{ isArchived: boolean; failed: number }> {
  const { rows } = await client.query<{ isArchived: boolean; failed: number }>(
    `SELECT coalesce(last_archived_wal, '') COLLATE "C" >= $1 AS "isArchived", failed_count::int AS failed FROM pg_stat_archiver`,
    [file],
  );
  return rows[0] ?? { isArchived: false, failed: 0 };
}

async function archiverSaid(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ said: string | null }>("SELECT pg_read_file($1, 0, 1000, true) AS said", [
    ARCHIVER_SAID,
  ]);
  const said = rows[0]?.said?.trim();
  return said ? `: ${said}` : "; ./db status shows why";
}

/**
 * Returns SQL that sets the roles' current passwords, because the restored data has the passwords from the time of the backup. It contains
 * SCRAM verifiers only, and skips roles that do not exist in the data.
 */
function passwordsSql(outputs: StackOutputs): string {
  const replicator = outputs.replicatorUrl ? { replicator: outputs.replicatorUrl } : {};
  const all = [outputs.urls, replicator, ...Object.values(outputs.databaseUrls ?? {})];
  const urls = all.flatMap((each) => Object.values(each));
  const roles = urls.map(addressOf);
  const values = roles
    .map(({ user, password }) => `(${literal(user)}, ${literal(passwordVerifier(user, password))})`)
    .join(", ");
  return [
    "SET log_min_error_statement = panic; SET log_min_duration_statement = -1; SET log_statement = none;",
    `SELECT format('ALTER ROLE %I PASSWORD %L', rolname, password) FROM (VALUES ${values}) v (name, password)`,
    "JOIN pg_roles ON rolname = name \\gexec\n",
  ].join("\n");
}

const imageOf = async (container: string) => (await docker(["inspect", "-f", "{{.Image}}", container])).trim();

/** Returns the repository's mounts in the backups' container, as options of `docker run`. */
async function mountsOf(container: string): Promise<string[]> {
  const format = '{{range .Mounts}}{{.Type}}|{{.Name}}|{{.Source}}|{{.Destination}}{{"\\n"}}{{end}}';
  const mounts = (await docker(["inspect", "-f", format, container])).split("\n").filter(Boolean);
  return mounts.flatMap((mount) => {
    const [type, name, source, destination = ""] = mount.split("|");
    if (!destination.startsWith("/var/lib/sectorwars-backups")) return [];
    // z relabels a host folder for SELinux. A copied folder may lack the label.
    return ["-v", type === "volume" ? `${name}:${destination}:ro` : `${source}:${destination}:ro,z`];
  });
}

/** Milliseconds between two progress lines about the restored size. */
const PACE_MS = 10_000;

/** Returns the name of the container that restores for a stack. */
const restorerOf = (stack: string) => `${namesFor(stack).backups}-restore`;

/**
 * Restores with a scratch server, in a container beside the running database, and checks all of the restored data.
 * @param options.unsound accepts data in which the check finds damage.
 * @param options.say receives progress lines.
 * Removes the restored folder if it fails.
 * @throws {Error} if the repository, the recovery or the check fails, another restore runs, or the surrounding scope is closed.
 */
export async function restoreToScratch(
  outputs: StackOutputs,
  plan: RestorePlan,
  stamp: string,
  { unsound = false, say = () => {} }: { unsound?: boolean; say?: (line: string) => void } = {},
): Promise<Restored> {
  const names = namesFor(outputs.stack);
  const folder = `pgdata.next-${stamp}`;
  const configuration = await docker(["exec", names.backups, "cat", "/run/pgbackrest.conf"]);
  // Only a repository in an S3 store needs the network.
  const network = configuration.includes("\nrepo1-type=s3\n") ? outputs.network : "none";
  const args = [
    ...["run", "--rm", "-i", "--init", "--name", restorerOf(outputs.stack), "--network", network],
    ...["--label", `sectorwars.stack=${outputs.stack}`],
    ...(unsound ? ["-e", "RESTORE_UNSOUND=yes"] : []),
    ...["-v", `${names.volume}:${DATA}`, ...(await mountsOf(names.backups))],
    ...["--entrypoint", "sectorwars-backup", await imageOf(names.backups)],
    ...["restore-aside", folder, ...plan.args],
  ];
  const told = tellSize(outputs.stack, `${DATA}/${folder}`, plan.backup.info.size, say);
  try {
    const input = `${configuration}\n-- SQL --\n${passwordsSql(outputs)}`;
    const said = await docker(args, { input, onLine: told.onLine });
    const found = (name: string) =>
      said
        .split("\n")
        .filter((line) => line.startsWith(`${name} `))
        .map((line) => line.slice(name.length + 1));
    const count = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(said)?.[1] ?? 0);
    const reached = position(/^reached \d+ (\S+)$/m.exec(said)?.[1] ?? "0/0");
    const [last] = found("last");
    return { folder, tables: count("tables"), rows: count("rows"), reached, last, damage: found("unsound") };
  } catch (error) {
    if (currentScope()?.reason) {
      await outsideScopes(() => removeUnfinished(outputs, folder));
      throw new Error("The restore was stopped. Nothing was changed.");
    }
    if (!(error instanceof DockerError)) throw error;
    if (/is already in use/.test(error.stderr)) throw anotherRuns(outputs.stack);
    const said = error.stderr.split("\n").filter((line) => line.startsWith("error: "));
    throw new Error(`Nothing was changed: ${said.join(" ").replaceAll("error: ", "") || error.stderr.trim()}`);
  } finally {
    told.end();
  }
}

const anotherRuns = (stack: string) =>
  new Error(
    `Another restore is running. Wait until it ends, then try again. To stop one that was abandoned: docker rm -f ${restorerOf(stack)}`,
  );

/** Passes on the container's progress lines and, while it copies files, reports the restored size. */
function tellSize(stack: string, folder: string, size: number, say: (line: string) => void) {
  let isCopying = false;
  const tell = async () => {
    const said = await docker(["exec", restorerOf(stack), "du", "-sk", folder]).catch(() => "");
    const kilobytes = Number.parseInt(said, 10);
    if (isCopying && kilobytes > 0) say(`${humanBytes(kilobytes * 1024)} of ${humanBytes(size)}`);
  };
  const timer = setInterval(() => isCopying && void tell(), PACE_MS);
  return {
    onLine(line: string) {
      if (line.startsWith("error: ")) return;
      isCopying = line === "restoring the files";
      say(line);
    },
    end() {
      isCopying = false;
      clearInterval(timer);
    },
  };
}

/** Removes a restore that was stopped: its container, then the folder that it wrote. */
async function removeUnfinished(outputs: StackOutputs, folder: string): Promise<void> {
  await removeContainer(restorerOf(outputs.stack));
  await withVolumeLock(outputs, `rm -rf ${DATA}/${folder}`);
}

/**
 * Checks that the disk has room for a restore. The restored data is a second copy on the disk of the running database, which would stop
 * if the disk became full.
 * @throws {Error} that names the required and the free bytes.
 */
export function checkRoom({ backup }: RestorePlan, { dataFree, archiver, ...report }: BackupReport): void {
  const [retained] = retainedDataIn("", report.kept);
  // The databases may have grown since the backup, and the recovery replays that growth.
  const size = Math.max(backup.info.size, archiver?.databaseBytes ?? 0);
  if (dataFree >= size + ROOM_LEFT) return;
  throw new Error(
    `The restore needs about ${humanBytes(size)} on the data's disk, plus ${humanBytes(ROOM_LEFT)} for the running server, but only ` +
      `${humanBytes(dataFree)} are free. Nothing was changed. Free some space` +
      (retained
        ? `, for instance the data that an earlier restore retained: ./db restore --forget ${retained.stamp}`
        : "."),
  );
}

/**
 * Removes the leftovers of killed restores, and expired retained data. Returns the removed folders.
 * @throws {Error} if another restore is running, or data is being exchanged.
 */
export async function removeLeftovers(outputs: StackOutputs, now: Date): Promise<string[]> {
  const container = restorerOf(outputs.stack);
  const state = await containerState(container);
  if (state && !["created", "exited", "dead"].includes(state.status)) throw anotherRuns(outputs.stack);
  if (state) await removeContainer(container);
  const gone = expiredFolders(await retainedFolders(outputs), now);
  if (gone.length > 0) await withVolumeLock(outputs, `cd ${DATA} && rm -rf ${gone.join(" ")}`);
  return gone;
}

/** Returns the folders of retained data, and of unfinished restores, in the stack's volume. */
export async function retainedFolders(outputs: StackOutputs): Promise<string[]> {
  const said = await inVolume(outputs, `cd ${DATA} && ls -d pgdata.* 2>/dev/null || :`);
  return said.split("\n").filter((folder) => /^pgdata\.[\w-]+$/.test(folder));
}

/**
 * Removes retained data.
 * @throws {Error} while data is being exchanged.
 */
export const forget = (outputs: StackOutputs, folder: string): Promise<void> =>
  withVolumeLock(outputs, `rm -rf ${DATA}/${folder}`);

/**
 * Runs a shell command on the stack's volume under a lock, and never while an exchange is requested: the command could remove the
 * folder that is about to become the data.
 * @throws {Error} while data is being exchanged, or if the command prints "gone": another restore has removed the folder.
 */
async function withVolumeLock(outputs: StackOutputs, line: string): Promise<void> {
  const said = await inVolume(
    outputs,
    `exec 9>>${DATA}/restore.lock && flock 9 && if [ -e ${REQUEST} ]; then echo busy; else ${line}; fi`,
  );
  if (said.trim() === "gone") {
    throw new Error(
      "Another restore removed the restored data. Nothing was changed. Start again, and run one restore at a time.",
    );
  }
  if (said.trim() === "busy") {
    throw new Error(
      "Another restore is exchanging the data. Wait until it ends. If it was killed, finish it: ./db restore --finish " +
        `--stack ${outputs.stack}`,
    );
  }
}

/** Runs a shell command on the stack's volume in a container of its own, so that it also works while the server is down. */
async function inVolume(outputs: StackOutputs, line: string): Promise<string> {
  const { volume } = namesFor(outputs.stack);
  const image = await imageOf(outputs.container);
  const apart = ["run", "--rm", "--network", "none", "-v", `${volume}:${DATA}`, "--entrypoint", "sh", image];
  return docker([...apart, "-c", line]);
}

/**
 * Replaces the data by a folder of the volume, and retains the replaced data under another name. The server carries out the exchange
 * when it starts, so an interrupted exchange is completed by the next start.
 */
export async function exchange(outputs: StackOutputs, folder: string, kept: string): Promise<void> {
  await withVolumeLock(
    outputs,
    `if [ ! -d ${DATA}/${folder} ]; then echo gone; else ` +
      `[ ! -e ${DATA}/${kept} ] && echo "${process.pid} ${hostname()} ${kept}" >${UNDER_WAY} && ` +
      `echo "${folder} ${kept} $(date +%s)" >${REQUEST}.partial && sync && mv ${REQUEST}.partial ${REQUEST}; fi`,
  );
  // A replica must not serve rows that the exchange undoes. When it starts again, it compares its copy with the new data.
  await stopReplicas(outputs.stack);
  await restartIntoExchange(outputs);
  await startReplicas(outputs.stack);
  const folders = await retainedFolders(outputs);
  if (folders.includes(folder) || !folders.includes(kept)) {
    throw new Error(`The server did not exchange the data. See why: docker logs ${outputs.container}`);
  }
}

/** Restarts the server, which carries out the exchange, and completes it, while all queries wait in the pooler, if the stack has one. */
const restartIntoExchange = (outputs: StackOutputs): Promise<void> =>
  whileHeld({ stack: outputs.stack }, { disconnect: "sessions" }, async () => {
    await restart(outputs);
    await endExchange(outputs);
  });

const restart = ({ container }: StackOutputs) => docker(["restart", "-t", String(STOP_SECONDS), container]);

/** Completes the exchange after the server's restart: sets the passwords, and waits until the server accepts connections. */
async function endExchange(outputs: StackOutputs): Promise<void> {
  const { container } = outputs;
  // The restored roles may have other passwords, so psql connects through the Unix socket with peer authentication.
  await waitForSocket(outputs);
  await docker(serverProgram(container, "psql", ["-v", "ON_ERROR_STOP=1"], { input: true }), {
    input: passwordsSql(outputs),
  });
  await (await connect(superuser(outputs), { patienceMs: READY_WITHIN_MS })).end();
  // The restored data may be older than the pooler, or have another password for it.
  const password = await poolerPassword({ stack: outputs.stack });
  if (password !== undefined) await prepareLogin(maintenance(superuser(outputs)), password);
  await docker(["exec", "-u", "root", container, "rm", "-f", UNDER_WAY]);
}

/**
 * Finishes the exchange of a killed restore. The server ignores a request that is older than 10 minutes (request_lasts in start.sh).
 * @returns the folder for the retained data, and whether the data was exchanged; undefined if there was nothing to finish.
 * @throws {Error} if the restore is still running.
 */
export async function finishExchange(outputs: StackOutputs): Promise<{ kept: string; exchanged: boolean } | undefined> {
  const said = await inVolume(outputs, `cat ${UNDER_WAY} 2>/dev/null || :; [ ! -e ${REQUEST} ] || echo requested`);
  const [, pid, host, kept] = /^(\d+) (\S+) (\S+)$/m.exec(said) ?? [];
  if (pid === undefined || kept === undefined) return undefined;
  if (host === hostname() && (await runs(Number(pid), "args", /restore/))) {
    throw new Error(`A restore is exchanging the data (process ${pid}). Wait until it ends, then try again.`);
  }
  if (/^requested$/m.test(said)) await restartIntoExchange(outputs);
  else await endExchange(outputs);
  await startReplicas(outputs.stack);
  return { kept, exchanged: (await retainedFolders(outputs)).includes(kept) };
}

async function waitForSocket({ container }: StackOutputs): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (;;) {
    try {
      await docker(serverProgram(container, "psql", ["-c", ""]));
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(300);
    }
  }
}

/**
 * Checks that no migration, import or copy runs on the server, because an exchange restarts it. A server that does not answer runs none.
 * @throws {Error} that names what is running.
 */
export async function refuseBusy(outputs: StackOutputs): Promise<void> {
  const client = await connect(maintenance(superuser(outputs)), { patienceMs: 3000 }).catch(() => undefined);
  if (client === undefined) return;
  try {
    await takeExclusiveLocks(client);
  } finally {
    await client.end();
  }
}

/** Records the server's timeline after an exchange, and requests a full backup. If this is not called, the container does both later. */
export const recordTimeline = (stack: string): Promise<string> => execInBackupContainer(stack, "note-timeline");

/**
 * Archives the WAL written so far, before a restore. Returns the LSN that is archived; undefined if the server does not answer, which
 * must not prevent a restore.
 * @throws {Error} if the WAL cannot be archived.
 */
export async function flushWal(outputs: StackOutputs): Promise<bigint | undefined> {
  const client = await connect(superuser(outputs), { patienceMs: 5000 }).catch(() => undefined);
  if (client === undefined) return undefined;
  try {
    return await archiveEverything(client);
  } finally {
    await client.end();
  }
}
