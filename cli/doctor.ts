/** `./db doctor`: checks the machine and the stack, and prints a remedy for each problem. */
import { execFile } from "node:child_process";
import { readFile, statfs } from "node:fs/promises";
import { promisify } from "node:util";
import type { Command } from "@commander-js/extra-typings";
import { readReport, takesBackups } from "../components/backups/backup-container.ts";
import { keyFile, readKeyFile } from "../components/backups/key-file.ts";
import { summaryOf, troublesOf } from "../components/backups/report.ts";
import { freeBytes } from "../components/import/preflight/target-info.ts";
import { reportFolder } from "../components/import/report/folder.ts";
import type { Report } from "../components/import/types.ts";
import { poolerSummary, poolerTroubles } from "../components/pooler/report.ts";
import { checkPrivateFiles } from "../components/private-places.ts";
import { likelyCause } from "../components/server/likely-cause.ts";
import { containerLog, containerState, docker, forwardCommand, isRemoteEngine } from "../lib/docker.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import { baseImage, readImages } from "../lib/images.ts";
import { namesFor } from "../lib/naming.ts";
import { withConnection } from "../lib/postgres.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { describeCertificate, readCertificate } from "./support/certificate.ts";
import { checkDenyList } from "./support/deny-list.ts";
import { examinePooler } from "./support/pooler.ts";
import { describeReplica, readReplicas } from "./support/replicas.ts";
import { readRevision } from "./support/revision.ts";
import { maintenanceAddress, monitorAddress, readRoleFindings, whyNoLogin } from "./support/roles.ts";
import { onStack } from "./support/subcommand.ts";

const run = promisify(execFile);
const GIB = 1024 ** 3;
const FREE_WANTED = 5 * GIB;
const OLDEST_NODE = [24, 7] as const;
const OLDEST_PULUMI = [3, 200] as const;
const OLDEST_ENGINE = 20;

/** The result of one check. */
export interface Finding {
  what: string;
  fine: boolean;
  /** What the check found. */
  seen: string;
  /** What to do, if it is not fine. */
  remedy?: string;
}

const fine = (what: string, seen: string): Finding => ({ what, fine: true, seen });
const wrong = (what: string, seen: string, remedy: string): Finding => ({ what, fine: false, seen, remedy });

/** Whether a version is at least the given one. */
const atLeast = (version: string, [major, minor]: readonly [number, number]) => {
  const [a = 0, b = 0] = version.split(".").map(Number);
  return a > major || (a === major && b >= minor);
};

function checkNode(): Finding {
  const { node } = process.versions;
  if (atLeast(node, OLDEST_NODE)) return fine("Node", node);
  return wrong("Node", node, "Install the project's own version: script/bootstrap base");
}

async function checkPulumi(): Promise<Finding> {
  try {
    const { stdout } = await run("pulumi", ["version"]);
    const version = stdout.trim().replace(/^v/, "");
    if (atLeast(version, OLDEST_PULUMI)) return fine("Pulumi CLI", version);
    return wrong(
      "Pulumi CLI",
      version,
      `The project needs ${OLDEST_PULUMI.join(".")} or newer. Run script/bootstrap, then: . script/env`,
    );
  } catch {
    return wrong("Pulumi CLI", "not on PATH", "Run script/bootstrap, then: . script/env");
  }
}

async function checkDocker(): Promise<Finding[]> {
  try {
    const said = await docker(["info", "--format", "{{.ServerVersion}} {{.OperatingSystem}}|{{.DockerRootDir}}"], {
      timeoutMs: 15_000,
    });
    const [version = "", root = ""] = said.trim().split("|");
    const engine =
      Number(version.split(".")[0]) >= OLDEST_ENGINE
        ? fine("Docker engine", version)
        : wrong("Docker engine", version, `The project needs ${OLDEST_ENGINE}.10 or newer. Update Docker.`);
    return [engine, await checkDisk(root)];
  } catch (error) {
    return [
      wrong("Docker engine", (error as Error).message, "Start Docker (script/bootstrap does so if it has permission)."),
    ];
  }
}

/** Checks the free space where Docker stores volumes, unless that is on another machine. */
async function checkDisk(root: string): Promise<Finding> {
  const elsewhere = fine("Disk", "on the Docker engine's machine, which cannot be checked from this one");
  // A folder of the same name on this machine is another folder.
  if (isRemoteEngine(undefined)) return elsewhere;
  try {
    const { bavail, bsize } = await statfs(root);
    const free = bavail * bsize;
    const seen = `${humanBytes(free)} free in ${root}`;
    if (free >= FREE_WANTED) return fine("Disk", seen);
    return wrong(
      "Disk",
      seen,
      "Free disk space: docker system df shows what Docker uses, docker system prune removes what is unused.",
    );
  } catch {
    return elsewhere;
  }
}

/** Returns the remedy for a missing container. If its volume is missing too, the stack must not come up with an empty database. */
async function remedyForMissingServer({ stack, backups }: StackOutputs): Promise<string> {
  const { volume } = namesFor(stack);
  const isThere = await docker(["volume", "inspect", volume]).then(
    () => true,
    () => false,
  );
  if (isThere)
    return "pulumi refresh --yes --target '**Container::*server', then pulumi up --skip-preview; the volume keeps the data";
  return backups === undefined
    ? `The volume ${volume} with the data is missing too. To start again: pulumi destroy, then pulumi up`
    : `The volume ${volume} is missing too. The backups exist, but pulumi destroy deletes them: docs/recovery.md, "the data volume is lost"`;
}

async function checkServer(outputs: StackOutputs): Promise<Finding[]> {
  const state = await containerState(outputs.container).catch(() => undefined);
  if (state?.status !== "running") {
    const log = state ? await containerLog(outputs.container, 30) : "";
    const seen = state
      ? `${state.status}, exit code ${state.exitCode}; ${likelyCause(log, state)}`
      : "it does not exist";
    const remedy = state ? `docker start ${outputs.container}` : await remedyForMissingServer(outputs);
    return [wrong(`Container ${outputs.container}`, seen, remedy)];
  }
  const container = fine(`Container ${outputs.container}`, [state.status, state.health].filter(Boolean).join(", "));
  const volume = judgeVolume(await freeBytes(outputs.container, undefined), outputs.stack);
  const port = await checkPort(outputs);
  return port.fine
    ? [
        container,
        ...volume,
        port,
        ...(await checkCertificate(outputs)),
        await checkSorting(outputs),
        ...(await checkRoles(outputs)),
        ...(await checkDenyList(outputs)),
      ]
    : [container, ...volume, port, ...(await checkCertificate(outputs))];
}

/** Checks the certificate of a server with TLS. An expired one also makes the login fail that checks the port. */
async function checkCertificate(outputs: StackOutputs): Promise<Finding[]> {
  const what = "Certificate";
  try {
    const found = await readCertificate(outputs);
    if (found === undefined) return [];
    const { problem, remedy = "" } = found;
    return [problem === undefined ? fine(what, describeCertificate(found)) : wrong(what, problem, remedy)];
  } catch (error) {
    return [wrong(what, (error as Error).message, "pulumi up")];
  }
}

/** Minimum free bytes for PostgreSQL: WAL between two checkpoints (max_wal_size is 1 GB by default) and temporary files. */
const VOLUME_WANTED = 2 * GIB;

/**
 * Checks the free space on the disk with the data.
 * @param free bytes; undefined if the container could not report it.
 */
export function judgeVolume(free: number | undefined, stack: string): Finding[] {
  if (free === undefined) return [];
  const what = "Disk of the data";
  const seen = `${humanBytes(free)} free`;
  if (free >= VOLUME_WANTED) return [fine(what, seen)];
  const remedy =
    "A full disk stops the server. Delete snapshots and branches that you no longer need: " +
    `./db snapshot list --stack ${stack}, ./db branch list --stack ${stack}; then unused images: docker image prune`;
  return [wrong(what, seen, remedy)];
}

/** Checks the schema's revision, if migrations are configured and the owner can log in. */
async function checkRevision(outputs: StackOutputs): Promise<Finding[]> {
  const revision = await readRevision(outputs).catch(() => undefined);
  if (!revision) return [];
  const { found, expected, remedy } = revision;
  const what = "Revision";
  if (found === expected) return [fine(what, found)];
  return [wrong(what, `${found || "none"}; the last update migrated the schema to ${expected}`, remedy)];
}

/** Finds roles that cannot log in, and roles and databases that were changed by hand. */
async function checkRoles(outputs: StackOutputs): Promise<Finding[]> {
  const drift = await readRoleFindings(outputs);
  const findings = drift.map(({ subject, what, remedy }) =>
    wrong("Roles", `${subject} ${what}`, `To correct it: ${remedy}`),
  );
  for (const [role, url] of Object.entries(outputs.urls)) {
    const { user } = addressOf(url);
    // Another finding about the role usually explains why it cannot log in.
    if (drift.some(({ subject }) => subject === user)) continue;
    const reason = await whyNoLogin(role, url);
    if (reason === undefined) continue;
    const remedy =
      "If its password was changed by hand, raise the version: pulumi config set passwordVersion NUMBER, then pulumi up. " +
      "Otherwise: pulumi up";
    findings.push(wrong("Roles", `${user} cannot log in: ${reason}`, remedy));
  }
  return findings.length > 0 ? findings : [fine("Roles", `${Object.keys(outputs.urls).length}, each as declared`)];
}

/** Compares the collation versions of indexes and image. With another version, an index returns wrong results, and PostgreSQL only warns. */
async function checkSorting(outputs: StackOutputs): Promise<Finding> {
  const address = monitorAddress(outputs);
  const what = "Sorting rules";
  const read = () =>
    withConnection(
      maintenanceAddress(outputs.urls.monitor ?? ""),
      async (client) => {
        const { rows } = await client.query<{ made: string | null; now: string | null }>(
          `SELECT datcollversion AS made, pg_catalog.pg_database_collation_actual_version(oid) AS now
           FROM pg_catalog.pg_database WHERE datname = $1`,
          [address.database],
        );
        return rows[0] ?? { made: null, now: null };
      },
      { attemptMs: 5000 },
    );
  const found = await read().catch((error: Error) => error);
  // The roles' findings explain why the monitor cannot log in.
  if (found instanceof Error) return wrong(what, `${address.user} cannot read them: ${found.message}`, "pulumi up");
  const { made, now } = found;
  if (made === now) return fine(what, `ICU ${now}, with which the indexes were built`);
  const database = `"${address.database}"`;
  return wrong(
    what,
    `the indexes were built with ICU ${made}, but the image has ICU ${now}`,
    `./db psql --role superuser, then: REINDEX DATABASE ${database}; ALTER DATABASE ${database} REFRESH COLLATION VERSION;`,
  );
}

/** Logs in as the superuser, whose password every update needs. */
async function checkPort(outputs: StackOutputs): Promise<Finding> {
  const address = maintenanceAddress(outputs.urls.superuser ?? "");
  const what = `Port ${address.port} on ${address.host}`;
  try {
    const version = await withConnection(
      address,
      async (client) => (await client.query("SHOW server_version")).rows[0].server_version,
      { attemptMs: 5000 },
    );
    return fine(what, `PostgreSQL ${version} answers`);
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    const remedy =
      code === "28P01"
        ? "The superuser's password was changed by hand. Raise its version: pulumi config set passwordVersion 2, then pulumi up"
        : isRemoteEngine(undefined)
          ? `The engine is on another machine. Forward the port, in another terminal: ${forwardCommand(address.port, undefined)}`
          : "pulumi up";
    return wrong(what, message, remedy);
  }
}

/** Checks the report of the last import, which exists even if the import failed and left the stack without outputs. */
async function checkImport(stack: string): Promise<Finding> {
  const file = `${reportFolder(stack)}/import.json`;
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return fine("Last import", `there is no report in ${reportFolder(stack)}`);
  const report: Report = JSON.parse(text);
  const seen = `${report.verdict}, ${report.startedAt}, ${report.tables.length} tables`;
  if (report.verdict === "identical" || report.verdict === "selected") return fine("Last import", seen);
  const remedy = `Read ${file.replace(".json", ".html")}, correct the cause, then pulumi up`;
  return wrong("Last import", `${seen}: ${report.error?.split("\n")[0]}`, remedy);
}

/** Checks the backups and their key. A key without a copy elsewhere is reported, but is not a problem yet. */
/** Checks that every read replica follows the server, and that no slot keeps WAL for a replica that is gone. */
async function checkReplicas(outputs: StackOutputs): Promise<Finding[]> {
  // The roles' findings explain why the monitor cannot log in.
  const monitor = maintenanceAddress(outputs.urls.monitor ?? "");
  const read = withConnection(monitor, (client) => readReplicas(client, outputs), { attemptMs: 5000 });
  const found = await read.catch(() => undefined);
  if (found === undefined) return [];
  const { replicas, orphans } = found;
  return [
    ...replicas.map((replica) =>
      replica.streaming
        ? fine("Replica", describeReplica(replica))
        : wrong("Replica", describeReplica(replica), replica.trouble ?? ""),
    ),
    ...orphans.map((orphan) => wrong("Replication slot", "unused", orphan)),
  ];
}

async function checkBackups({ stack, backups }: StackOutputs): Promise<Finding[]> {
  if (backups === undefined && !(await takesBackups(stack).catch(() => false))) return [];
  const file = keyFile(stack);
  const key = await readKeyFile(file).catch((error: Error) => error);
  const keyFinding =
    key instanceof Error
      ? wrong("Key to the backups", key.message, "Restore the file from its copy")
      : key === undefined
        ? wrong("Key to the backups", `${file} is missing`, "To write it again: pulumi refresh --yes, then pulumi up")
        : fine(
            "Key to the backups",
            key.confirmedAt
              ? `copied elsewhere, as confirmed at ${key.confirmedAt}`
              : `only here: copy ${file} to a safe place, then ./db backup --key-is-safe`,
          );
  try {
    const report = await readReport(stack);
    const troubles = troublesOf(report).map((trouble) => wrong("Backups", trouble, "See docs/recovery.md"));
    return [...(troubles.length > 0 ? troubles : [fine("Backups", summaryOf(report))]), keyFinding];
  } catch (error) {
    return [wrong("Backups", (error as Error).message, `docker logs ${namesFor(stack).backups}`), keyFinding];
  }
}

/** Checks the pooler: its container, its login in the server, and whether queries wait. */
async function checkPoolerOf(outputs: StackOutputs): Promise<Finding[]> {
  const examined = await examinePooler(outputs);
  if (examined === undefined) return [];
  const { report, problem, container } = examined;
  const what = `Pooler ${container}`;
  if (report === undefined) return [wrong(what, problem.seen, problem.remedy)];
  if (problem) return [wrong(what, problem.seen, problem.remedy)];
  const troubles = poolerTroubles(report, outputs.stack, container).map((trouble) =>
    wrong(what, trouble, "See docs/pooler.md"),
  );
  return troubles.length > 0 ? troubles : [fine(what, poolerSummary(report))];
}

/** Checks the stack. A stack that is not up has no server, roles, backups or import to check. */
async function checkStack(stack: string): Promise<Finding[]> {
  try {
    const outputs = await readStack(stack);
    const up = outputs.unfinished
      ? wrong(
          `Stack ${stack}`,
          "its first update failed",
          `Correct the error that it reported, then run: script/up --stack ${stack}`,
        )
      : fine(`Stack ${stack}`, outputs.address);
    return [
      up,
      ...(await checkServer(outputs)),
      ...(await checkPoolerOf(outputs)),
      ...(await checkRevision(outputs)),
      ...(await checkReplicas(outputs)),
      ...(await checkBackups(outputs)),
      await checkImport(stack),
    ];
  } catch (error) {
    return [wrong(`Stack ${stack}`, (error as Error).message, `Run: script/up --stack ${stack}`)];
  }
}

/** Checks that the images of script/bootstrap still exist: docker image prune may have removed them. */
async function checkImages(): Promise<Finding[]> {
  const what = "Base image";
  try {
    const known = readImages();
    // Docker pulls the official image on demand.
    if (known.databaseBase === undefined) return [];
    const image = baseImage(known);
    const found = await docker(["image", "inspect", image]).then(
      () => true,
      () => false,
    );
    return [
      found
        ? fine(what, image)
        : wrong(what, `${image} is missing`, isRemoteEngine(undefined) ? "Run: script/up" : "Run: script/bootstrap"),
    ];
  } catch (error) {
    return [wrong(what, (error as Error).message, "Run: script/bootstrap")];
  }
}

async function examine(stack: string): Promise<Finding[]> {
  const machine = [checkNode(), await checkPulumi(), ...(await checkDocker())];
  return [...machine, ...(await checkImages()), ...(await checkPrivateFiles(stack)), ...(await checkStack(stack))];
}

/** Formats a finding for the terminal. */
const describe = ({ what, fine, seen, remedy }: Finding) =>
  `${fine ? "  ok   " : "  WRONG"}  ${what}: ${seen}${remedy ? `\n           ${remedy}` : ""}`;

/** Configures the command `./db doctor`. */
export default function doctor(command: Command): void {
  command
    .description(
      "Checks the machine: tools, Docker, disk, base image, modes of files with secrets. Checks the stack: container, disk of the data, " +
        "port, collation version, roles, pooler, replicas, deny list, revision, the last import, backups and their key. Prints a remedy for each problem. " +
        "Exits with 1 if there is one.",
    )
    .action(
      onStack(async ({ stack, print }) => {
        const findings = await examine(stack);
        const problems = findings.filter((finding) => !finding.fine).length;
        const summary = problems === 0 ? "No problems found." : `${problems} problem${problems > 1 ? "s" : ""}.`;
        print([...findings.map(describe), "", summary].join("\n"), findings);
        return problems === 0 ? 0 : 1;
      }),
    );
}
