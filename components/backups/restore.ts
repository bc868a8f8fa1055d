/** Restoring into a running stack: beside the data, checked, then exchanged by two renames in the same volume. */
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
import { holdAlone } from "../snapshots/snapshots.ts";
import { inBackups } from "./console.ts";
import { keptAmong, overdue } from "./kept.ts";
import type { BackupReport } from "./report.ts";
import { position, type Way } from "./target.ts";

const DATA = "/var/lib/postgresql/data";
/** What the server is to do at its next start: images/database/start.sh. */
const NOTE = `${DATA}/exchange`;
/** Says who exchanges the data, and under what name the former is kept, until the roles have today's passwords. A kill leaves it. */
const UNDER_WAY = `${DATA}/exchange-under-way`;
/** Room that is left for the running server beside a restore, bytes: its log goes on growing meanwhile. */
const ROOM_LEFT = Number(imageLimit("ROOM_LEFT_KB")) * 1024;
/** Milliseconds to wait for the last WAL file to reach the repository. */
const ARCHIVED_WITHIN_MS = 90_000;
/** After so many attempts, a second apart, PostgreSQL's archiver rests for a minute (NUM_ARCHIVE_RETRIES in its pgarch.c). */
const ATTEMPTS = 3;
/** Where the archive command leaves what it said, while its attempts fail (images/database/backup/archiving.sh). */
const ARCHIVER_SAID = `${DATA}/archiving-said`;
const STOP_SECONDS = 120;
const READY_WITHIN_MS = 180_000;

/** What was found in the restored data. */
export interface Restored {
  folder: string;
  tables: number;
  rows: number;
  /** Where the recovery ended in the write-ahead log. */
  reached: bigint;
  /** When the last transaction in it was committed, as the server tells it; undefined where none was replayed. */
  last: string | undefined;
  /** What is wrong with it; only where it was wanted all the same. */
  unsound: string[];
}

const superuser = (outputs: StackOutputs) => addressOf(outputs.urls.superuser ?? "");

/**
 * Makes sure that all that was written so far is in the repository, and that something comes after it: a recovery up to a
 * time ends at the first commit behind it. Returns how far the log has come.
 * @throws {Error} when the WAL does not get there in time, or the archiver has failed so often that it rests; with its words.
 */
export async function archiveEverything(client: pg.Client): Promise<bigint> {
  await client.query("SELECT pg_current_xact_id()");
  // Before the file is there to be archived: what fails from here on is this one, or one in front of it.
  const before = (await archiverOf(client, "")).failed;
  const { rows } = await client.query<{ file: string; lsn: string }>(
    "SELECT pg_walfile_name(lsn) AS file, lsn::text FROM pg_switch_wal() AS lsn",
  );
  const deadline = Date.now() + ARCHIVED_WITHIN_MS;
  for (;;) {
    const { there, failed } = await archiverOf(client, rows[0]?.file ?? "");
    if (there) return position(rows[0]?.lsn ?? "0/0");
    if (Date.now() > deadline || failed - before >= ATTEMPTS) {
      throw new Error(`what was written last does not reach the repository${await archiverSaid(client)}`);
    }
    await sleep(200);
  }
}

/** Whether the archiver has dealt with a file, and how often it has failed. */
async function archiverOf(client: pg.Client, file: string): Promise<{ there: boolean; failed: number }> {
  const { rows } = await client.query<{ there: boolean; failed: number }>(
    `SELECT coalesce(last_archived_wal, '') COLLATE "C" >= $1 AS there, failed_count::int AS failed FROM pg_stat_archiver`,
    [file],
  );
  return rows[0] ?? { there: false, failed: 0 };
}

async function archiverSaid(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ said: string | null }>("SELECT pg_read_file($1, 0, 1000, true) AS said", [
    ARCHIVER_SAID,
  ]);
  const said = rows[0]?.said?.trim();
  return said ? `: ${said}` : "; ./db status tells why";
}

/** The roles' passwords as SQL, as the server keeps them: those of today, for data from a time that had others. Roles that were not there yet are left out. */
function passwordsSql(outputs: StackOutputs): string {
  const urls = [outputs.urls, ...Object.values(outputs.databaseUrls ?? {})].flatMap((each) => Object.values(each));
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

/** Where the backups' container finds the repository: the same mounts serve the restore. */
async function mountsOf(container: string): Promise<string[]> {
  const format = '{{range .Mounts}}{{.Type}}|{{.Name}}|{{.Source}}|{{.Destination}}{{"\\n"}}{{end}}';
  const mounts = (await docker(["inspect", "-f", format, container])).split("\n").filter(Boolean);
  return mounts.flatMap((mount) => {
    const [type, name, source, destination = ""] = mount.split("|");
    if (!destination.startsWith("/var/lib/sectorwars-backups")) return [];
    // A host folder carries the label that SELinux asks for, also where it was copied here without it.
    return ["-v", type === "volume" ? `${name}:${destination}:ro` : `${source}:${destination}:ro,z`];
  });
}

/** Milliseconds between two lines that tell how much is there. */
const PACE_MS = 10_000;

/** The container of a stack's restore. */
const restorerOf = (stack: string) => `${namesFor(stack).backups}-restore`;

/**
 * Restores beside the running database, in a container of its own, and checks all of it.
 * @param options.unsound has data restored in which the check finds damage.
 * @param options.say told what is being done.
 * @throws {Error} with nothing left behind when the repository, the recovery or the check fails, another restore runs, or the
 * surrounding scope is closed.
 */
export async function restoreAside(
  outputs: StackOutputs,
  way: Way,
  stamp: string,
  { unsound = false, say = () => {} }: { unsound?: boolean; say?: (line: string) => void } = {},
): Promise<Restored> {
  const names = namesFor(outputs.stack);
  const folder = `pgdata.next-${stamp}`;
  const configuration = await docker(["exec", names.backups, "cat", "/run/pgbackrest.conf"]);
  // A repository in a store is reached over the network, any other needs none.
  const network = configuration.includes("\nrepo1-type=s3\n") ? outputs.network : "none";
  const args = [
    ...["run", "--rm", "-i", "--init", "--name", restorerOf(outputs.stack), "--network", network],
    ...["--label", `sectorwars.stack=${outputs.stack}`],
    ...(unsound ? ["-e", "RESTORE_UNSOUND=yes"] : []),
    ...["-v", `${names.volume}:${DATA}`, ...(await mountsOf(names.backups))],
    ...["--entrypoint", "sectorwars-backup", await imageOf(names.backups)],
    ...["restore-aside", folder, ...way.args],
  ];
  const told = tellSize(outputs.stack, `${DATA}/${folder}`, way.backup.info.size, say);
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
    return { folder, tables: count("tables"), rows: count("rows"), reached, last, unsound: found("unsound") };
  } catch (error) {
    if (currentScope()?.reason) {
      await outsideScopes(() => clearAside(outputs, folder));
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
    `Another restore is running. Wait for it, then try again; one that nobody waits for ends with: docker rm -f ${restorerOf(stack)}`,
  );

/** Passes on what the container says of its steps, and while its files come, how much is there. */
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

/** Removes a restore that was stopped: its container first, then what that has written. */
async function clearAside(outputs: StackOutputs, folder: string): Promise<void> {
  await removeContainer(restorerOf(outputs.stack));
  await alone(outputs, `rm -rf ${DATA}/${folder}`);
}

/**
 * A restore is a second copy on the disk of the running database, which would stop if the disk became full.
 * @throws {Error} that tells what is missing.
 */
export function checkRoom({ backup }: Way, { dataFree, archiver, ...report }: BackupReport): void {
  const [kept] = keptAmong("", report.kept);
  // What came since the backup is replayed into it.
  const size = Math.max(backup.info.size, archiver?.databaseBytes ?? 0);
  if (dataFree >= size + ROOM_LEFT) return;
  throw new Error(
    `Nothing was changed: the restored data takes about ${humanBytes(size)} beside the present one, and ` +
      `${humanBytes(dataFree)} are free on its disk, of which ${humanBytes(ROOM_LEFT)} stay for the running server. Make room` +
      (kept ? `; what a former restore has kept goes with: ./db restore --forget ${kept.stamp}` : "."),
  );
}

/** Removes what killed restores have left, and former data whose time is over. Returns what went. */
export async function tidy(outputs: StackOutputs, now: Date): Promise<string[]> {
  const container = restorerOf(outputs.stack);
  const state = await containerState(container);
  if (state && !["created", "exited", "dead"].includes(state.status)) throw anotherRuns(outputs.stack);
  if (state) await removeContainer(container);
  const gone = overdue(await keptFolders(outputs), now);
  if (gone.length > 0) await alone(outputs, `cd ${DATA} && rm -rf ${gone.join(" ")}`);
  return gone;
}

/** Folders of former data in the stack's volume. */
export async function keptFolders(outputs: StackOutputs): Promise<string[]> {
  const said = await inVolume(outputs, `cd ${DATA} && ls -d pgdata.* 2>/dev/null || :`);
  return said.split("\n").filter((folder) => /^pgdata\.[\w-]+$/.test(folder));
}

/**
 * Removes former data that a restore has kept.
 * @throws {Error} while an exchange is under way.
 */
export const forget = (outputs: StackOutputs, folder: string): Promise<void> =>
  alone(outputs, `rm -rf ${DATA}/${folder}`);

/**
 * Runs a line of shell on the stack's volume, alone among those who use this, and never while the server has an exchange
 * before it: a folder that is cleared away in that moment would be half of the next data.
 * @throws {Error} while an exchange is under way.
 */
async function alone(outputs: StackOutputs, line: string): Promise<void> {
  const said = await inVolume(
    outputs,
    `exec 9>>${DATA}/restore.lock && flock 9 && if [ -e ${NOTE} ]; then echo busy; else ${line}; fi`,
  );
  if (said.trim() === "gone") {
    throw new Error("Nothing was changed: another restore has cleared the restored data away. Start again, alone.");
  }
  if (said.trim() === "busy") {
    throw new Error(
      "Another restore is about to exchange the data. Wait for it; where it was killed, end it: ./db restore --finish " +
        `--stack ${outputs.stack}`,
    );
  }
}

/** Runs a line of shell on the stack's volume, whether its server runs or not. */
async function inVolume(outputs: StackOutputs, line: string): Promise<string> {
  const { volume } = namesFor(outputs.stack);
  const image = await imageOf(outputs.container);
  const apart = ["run", "--rm", "--network", "none", "-v", `${volume}:${DATA}`, "--entrypoint", "sh", image];
  return docker([...apart, "-c", line]);
}

/**
 * Puts a folder of the volume in the place of the data, which is kept under another name. The server does the exchange itself
 * when it starts, so that one which is cut short is ended by the next start.
 */
export async function exchange(outputs: StackOutputs, folder: string, kept: string): Promise<void> {
  await alone(
    outputs,
    `if [ ! -d ${DATA}/${folder} ]; then echo gone; else ` +
      `[ ! -e ${DATA}/${kept} ] && echo "${process.pid} ${hostname()} ${kept}" >${UNDER_WAY} && ` +
      `echo "${folder} ${kept} $(date +%s)" >${NOTE}.partial && sync && mv ${NOTE}.partial ${NOTE}; fi`,
  );
  await restart(outputs);
  await endExchange(outputs);
  const folders = await keptFolders(outputs);
  if (folders.includes(folder) || !folders.includes(kept)) {
    throw new Error(`The data was not exchanged; docker logs ${outputs.container} tells why.`);
  }
}

const restart = ({ container }: StackOutputs) => docker(["restart", "-t", String(STOP_SECONDS), container]);

/** What is left to do behind the server's restart. */
async function endExchange(outputs: StackOutputs): Promise<void> {
  const { container } = outputs;
  // Roles of another time may have other passwords; over the socket the operating system's user is proof enough.
  await waitForSocket(outputs);
  await docker(serverProgram(container, "psql", ["-v", "ON_ERROR_STOP=1"], { input: true }), {
    input: passwordsSql(outputs),
  });
  await (await connect(superuser(outputs), { patienceMs: READY_WITHIN_MS })).end();
  await docker(["exec", "-u", "root", container, "rm", "-f", UNDER_WAY]);
}

/**
 * Ends the exchange of a restore that was killed. A server that finds the request too old leaves the data as it is.
 * @returns the former data's folder, and whether it is one; undefined where no exchange was under way.
 * @throws {Error} where the restore is alive.
 */
export async function finishExchange(outputs: StackOutputs): Promise<{ kept: string; exchanged: boolean } | undefined> {
  const said = await inVolume(outputs, `cat ${UNDER_WAY} 2>/dev/null || :; [ ! -e ${NOTE} ] || echo requested`);
  const [, pid, host, kept] = /^(\d+) (\S+) (\S+)$/m.exec(said) ?? [];
  if (pid === undefined || kept === undefined) return undefined;
  if (host === hostname() && (await runs(Number(pid), "args", /restore/))) {
    throw new Error(`A restore is exchanging the data (process ${pid}). Wait for it to end, then try again.`);
  }
  if (/^requested$/m.test(said)) await restart(outputs);
  await endExchange(outputs);
  return { kept, exchanged: (await keptFolders(outputs)).includes(kept) };
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
 * An exchange restarts the server: whoever migrates, imports or copies there would be cut off.
 * @throws {Error} that says who does. A server that does not answer serves nobody.
 */
export async function refuseBusy(outputs: StackOutputs): Promise<void> {
  const client = await connect(maintenance(superuser(outputs)), { patienceMs: 3000 }).catch(() => undefined);
  if (client === undefined) return;
  try {
    await holdAlone(client);
  } finally {
    await client.end();
  }
}

/** After an exchange: the timeline is noted, which asks for a full backup of what is there now. It would be, a little later. */
export const goOn = (stack: string): Promise<string> => inBackups(stack, "note-timeline");

/**
 * Prepares the repository for a restore. Returns how far the log has come; undefined where the server does not answer, which is
 * a reason to restore, and none to refuse.
 * @throws {Error} when the log does not reach the repository.
 */
export async function settle(outputs: StackOutputs): Promise<bigint | undefined> {
  const client = await connect(superuser(outputs), { patienceMs: 5000 }).catch(() => undefined);
  if (client === undefined) return undefined;
  try {
    return await archiveEverything(client);
  } finally {
    await client.end();
  }
}
