/** Temporary PostgreSQL servers in Docker, because imports are tested only against real servers. */
import { createHash, randomBytes, randomInt } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { helperLabel } from "../../components/import/schema/schema.ts";
import { besideServer } from "../../components/import/session/direct.ts";
import type { ImportSpec, Report, Source, Target } from "../../components/import/types.ts";
import { preparationScript } from "../../components/privileges/scripts.ts";
import { makeServerCertificate, type ServerCertificate } from "../../lib/certificates.ts";
import { containerLog, docker, removeContainers } from "../../lib/docker.ts";
import { type Address, ident, literal } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { connect, withConnection } from "./session.ts";

/** The label of all containers and networks of tests, by which leftovers are found. */
const TEST_LABEL = "sectorwars.test=1";
const STARTS_WITHIN_MS = 120_000;
/** Specific to this clone: two clones that are tested in parallel may have different images. */
const TARGET_IMAGE = `sectorwars-test-database:${createHash("sha256").update(process.cwd()).digest("hex").slice(0, 8)}`;
/** Defaults of Pulumi.yaml. */
export const DENY_LIST = [
  "admin_credentials",
  "refresh_tokens",
  "mfa_*",
  "*_secrets",
  "oauth_accounts",
  "password_reset_tokens",
];

interface Images {
  databaseBase: string;
  newerPostgres: string;
}

/** The images that script/bootstrap found or built. */
export function images(): Images {
  const known: Images = { databaseBase: "postgres:15-alpine", newerPostgres: "postgres:18-alpine" };
  return existsSync(".local/images.json")
    ? { ...known, ...JSON.parse(readFileSync(".local/images.json", "utf8")) }
    : known;
}

/** Returns whether Docker has an image locally. */
export const haveImage = (image: string): Promise<boolean> =>
  docker(["image", "inspect", image]).then(
    () => true,
    () => false,
  );

/**
 * Returns a free port. A fixed port, unlike one that Docker chooses, survives a container's restart. It is below the kernel's range for
 * outgoing connections, one of which could take it while the container is down.
 */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

export const secret = (): string => randomBytes(16).toString("hex");

/** The password of the stack's roles on every target of this run. */
export const ROLES_PASSWORD = secret();

/** One server of a lab. */
export class Server {
  readonly container: string;
  /** The superuser's address of the server's own database. */
  readonly admin: Address;
  /** The server's name inside the lab's network. */
  readonly alias: string;

  constructor(container: string, alias: string, admin: Address) {
    this.container = container;
    this.alias = alias;
    this.admin = admin;
  }

  in(database: string): Address {
    return { ...this.admin, database };
  }

  /** Runs a script in a database as the superuser. Returns the rows of its only, or last, query. */
  async sql<Row extends pg.QueryResultRow = Record<string, unknown>>(database: string, script: string): Promise<Row[]> {
    return withConnection(this.in(database), async (client) => {
      const result = await client.query<Row>(script);
      const last = Array.isArray(result) ? result.at(-1) : result;
      return last.rows;
    });
  }

  /** Returns the single value of a query. */
  async value<T = unknown>(database: string, query: string): Promise<T> {
    const [row] = await this.sql(database, query);
    return Object.values(row ?? {})[0] as T;
  }

  async databases(): Promise<string[]> {
    const rows = await this.sql<{ datname: string }>(
      "postgres",
      "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1",
    );
    return rows.map((row) => row.datname);
  }

  /** Returns the server's log. */
  log(): Promise<string> {
    return containerLog(this.container, 10_000_000);
  }

  /** Kills the server, as in a crash: clients get no message. */
  async kill(): Promise<void> {
    await docker(["kill", this.container]);
  }

  async start(): Promise<void> {
    await docker(["start", this.container]);
    await this.awake();
  }

  /** Pauses the server with all its connections open, like a suspended machine. */
  async freeze(): Promise<void> {
    await docker(["pause", this.container]);
  }

  async thaw(): Promise<void> {
    await docker(["unpause", this.container]);
  }

  /** Returns the sessions of imports, after a short wait for those that are ending. */
  async importSessions(): Promise<string[]> {
    for (let tries = 0; ; tries += 1) {
      const rows = await this.sql<{ line: string }>(
        "postgres",
        `SELECT application_name || ' in ' || datname || ', ' || coalesce(state, '') || ': ' || left(query, 60) AS line FROM pg_stat_activity
         WHERE application_name ~ '^(sectorwars-import|pg_dump|pg_restore)' AND pid <> pg_backend_pid()`,
      );
      if (rows.length === 0 || tries === 30) return rows.map((row) => row.line);
      await sleep(100);
    }
  }

  async restart(): Promise<void> {
    await docker(["restart", this.container]);
    await this.awake();
  }

  async awake(): Promise<void> {
    try {
      const client = await connect(this.admin, { patienceMs: STARTS_WITHIN_MS, attemptMs: 3000 });
      await client.end();
    } catch (error) {
      throw new Error(`${this.container}: ${(error as Error).message}\n${await containerLog(this.container, 40)}`);
    }
  }
}

/** A source server with TLS. It logs every connection and every statement. */
export class SourceServer extends Server {
  readonly certificate: ServerCertificate;
  /** A role that owns databases but is not a superuser, as on Neon. */
  readonly user = "game_owner";
  readonly userPassword = secret();

  constructor(container: string, alias: string, admin: Address, certificate: ServerCertificate) {
    super(container, alias, admin);
    this.certificate = certificate;
  }

  /** Returns a database of this server as the source of an import. */
  source(database: string, user: "owner" | "superuser" = "owner"): Source {
    const login =
      user === "owner"
        ? { user: this.user, password: this.userPassword }
        : { user: this.admin.user, password: this.admin.password };
    return {
      label: `${this.alias}/${database}`,
      address: { ...this.in(database), ...login },
      fromContainer: besideServer(this.container),
      rootCertificates: this.certificate.authority,
      remarks: [],
    };
  }

  /** Creates a database that the plain role owns, and runs a script in it as that role. */
  async makeDatabase(database: string, script: string): Promise<void> {
    await this.sql("postgres", `CREATE DATABASE ${ident(database)} OWNER ${ident(this.user)}`);
    await withConnection(this.source(database).address, (client) => client.query(script));
  }

  /** Returns the log lines about connections to a database, without the tests' own superuser sessions. */
  async connectionsTo(database: string): Promise<number> {
    const log = await this.log();
    return log
      .split("\n")
      .filter((line) => /connection authorized: /.test(line) && line.includes(`database=${database} `)).length;
  }
}

/** Options of a source. */
export interface SourceOptions {
  image: string;
  /** Files for the image's first start. */
  init?: Record<string, string>;
  /** Further host names in its certificate. */
  hosts?: string[];
  /** Further settings of the server, as `name=value`. */
  settings?: string[];
  /** Arguments of initdb. */
  initdb?: string;
  superuser?: string;
}

/** The servers, network and files of one test file. {@link Lab.close} removes them. */
export class Lab {
  readonly id = `swtest-${randomBytes(4).toString("hex")}`;
  readonly folder: string;
  private readonly runLabel: string;
  private databasesMade = 0;
  private readonly volumes: string[] = [];

  private constructor(folder: string) {
    this.folder = folder;
    this.runLabel = `sectorwars.test.run=${this.id}`;
  }

  static async open(): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), "sectorwars-test-")));
    await removeOfTheDead();
    await docker(["network", "create", ...lab.labels(), lab.id]);
    return lab;
  }

  /** Labels everything with the process id, so that the next run finds what a killed one left. */
  private labels(): string[] {
    return [TEST_LABEL, this.runLabel, `sectorwars.test.pid=${process.pid}`].flatMap((label) => ["--label", label]);
  }

  async close(): Promise<void> {
    await removeContainers(this.runLabel);
    await removeContainers(helperLabel(this.id));
    await docker(["network", "rm", this.id]).catch(() => {});
    for (const volume of this.volumes) await docker(["volume", "rm", volume]).catch(() => {});
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Starts a source with TLS. */
  async startSource(options: SourceOptions): Promise<SourceServer> {
    const superuser = options.superuser ?? "lab_admin";
    const alias = `${this.id}-source-${randomBytes(2).toString("hex")}`;
    const certificate = await makeServerCertificate([alias, "localhost", ...(options.hosts ?? [])]);
    const password = secret();
    const port = await freePort();
    const folder = await this.filesFor(alias, {
      "lab/password": password,
      "lab/server.crt": certificate.certificate,
      "lab/server.key": certificate.key,
      "init/00-tls.sh": TLS_SCRIPT,
      ...Object.fromEntries(Object.entries(options.init ?? {}).map(([name, text]) => [`init/${name}`, text])),
    });
    const settings = [
      "listen_addresses=*",
      "fsync=off",
      "full_page_writes=off",
      "max_wal_size=4GB",
      // The server's own activity must not look like that of the import.
      "autovacuum=off",
      "log_connections=on",
      "log_statement=all",
      "log_line_prefix=%m [%p] %q%u@%d %a ",
      "log_min_messages=warning",
      ...(options.settings ?? []),
    ];
    const environment = {
      POSTGRES_USER: superuser,
      PGDATA: "/tmp/pgdata",
      ...(options.initdb === undefined ? {} : { POSTGRES_INITDB_ARGS: options.initdb }),
    };
    await this.run(alias, options.image, { outside: port, inside: 5432 }, folder, environment, [
      "--entrypoint",
      "docker-entrypoint.sh",
    ])(["postgres", ...settings.flatMap((setting) => ["-c", setting])]);
    const tls = { ca: certificate.authority, servername: "localhost", rejectUnauthorized: true };
    const admin = { host: "127.0.0.1", port, database: "postgres", user: superuser, password, tls };
    const server = new SourceServer(alias, alias, admin, certificate);
    await server.awake();
    await server.sql("postgres", `CREATE ROLE ${server.user} LOGIN PASSWORD ${literal(server.userPassword)}`);
    return server;
  }

  /**
   * Starts a target like that of a stack: with the database image, the stack's collation and its roles.
   * @param settings settings of the server, which replace the one that saves the tests waiting for the disk.
   * @param more further arguments of docker create.
   */
  async startTarget(settings = ["fsync=off"], more: string[] = []): Promise<Server> {
    await docker(
      ["build", "-q", "-t", TARGET_IMAGE, "--build-arg", `BASE=${images().databaseBase}`, "images/database"],
      { timeoutMs: 120_000 },
    );
    const alias = `${this.id}-target-${randomBytes(2).toString("hex")}`;
    const password = secret();
    const port = await freePort();
    const folder = await this.filesFor(alias, { "lab/password": password });
    const environment = {
      POSTGRES_INITDB_ARGS:
        "--encoding=UTF8 --locale-provider=icu --icu-locale=en-US --locale=C.UTF-8 --auth-host=scram-sha-256 --auth-local=peer",
    };
    await this.run(
      alias,
      TARGET_IMAGE,
      { outside: port, inside: 5432 },
      folder,
      environment,
      more,
    )([
      "postgres",
      "-c",
      "config_file=/etc/postgresql/postgresql.conf",
      "-c",
      "hba_file=/etc/postgresql/pg_hba.conf",
      ...settings.flatMap((setting) => ["-c", setting]),
    ]);
    const server = new Server(alias, alias, {
      host: "127.0.0.1",
      port,
      database: "postgres",
      user: "postgres",
      password,
    });
    await server.awake();
    await server.sql(
      "postgres",
      Object.values(ROLE_NAMES)
        .map((role) => `CREATE ROLE ${ident(role)} LOGIN PASSWORD ${literal(ROLES_PASSWORD)}`)
        .join(";"),
    );
    return server;
  }

  /**
   * Creates a volume in memory with a size limit in MiB. It exists as long as a container mounts it, so a second container, which
   * only sleeps, keeps it while the server is down.
   */
  async makeSmallVolume(mebibytes: number): Promise<string> {
    const name = `${this.id}-small-${randomBytes(2).toString("hex")}`;
    const options = ["type=tmpfs", "device=tmpfs", `o=size=${mebibytes}m,mode=1777`].flatMap((o) => ["--opt", o]);
    await docker(["volume", "create", "--driver", "local", ...options, ...this.labels(), name]);
    this.volumes.push(name);
    const mount = ["--volume", `${name}:/held`, "--entrypoint", "sleep"];
    await docker(["run", "-d", ...this.labels(), ...mount, images().databaseBase, "100000"]);
    return name;
  }

  /**
   * Starts another container in the lab's network, with further names.
   * @param files files for its folder /lab.
   * @param inside the port to publish.
   * @returns the published port on this machine.
   */
  async startBeside(options: {
    name: string;
    image: string;
    aliases: string[];
    files: Record<string, string>;
    inside: number;
    command: string;
  }): Promise<number> {
    const name = `${this.id}-${options.name}`;
    const port = await freePort();
    const files = Object.entries({ password: "", ...options.files }).map(([path, text]) => [`lab/${path}`, text]);
    const folder = await this.filesFor(name, Object.fromEntries(files));
    const aliases = options.aliases.flatMap((alias) => ["--network-alias", alias]);
    await this.run(name, options.image, { outside: port, inside: options.inside }, folder, {}, [
      ...aliases,
      ...["--user", "postgres", "--entrypoint", "sh"],
    ])(["-c", options.command]);
    return port;
  }

  /** Writes files for a container, readable by its user; the parent folder is private. */
  private async filesFor(name: string, files: Record<string, string>): Promise<string> {
    const folder = join(this.folder, name);
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(folder, path, ".."), { recursive: true });
      await writeFile(join(folder, path), text, { mode: 0o644 });
    }
    return folder;
  }

  private run(
    name: string,
    image: string,
    port: { outside: number; inside: number },
    folder: string,
    environment: Record<string, string>,
    more: string[],
  ) {
    return async (command: string[]): Promise<void> => {
      const variables = Object.entries({ POSTGRES_PASSWORD_FILE: "/lab/password", ...environment });
      await docker([
        "create",
        "--name",
        name,
        ...this.labels(),
        "--network",
        this.id,
        "-p",
        `127.0.0.1:${port.outside}:${port.inside}`,
        ...variables.flatMap(([key, value]) => ["-e", `${key}=${value}`]),
        ...more,
        image,
        ...command,
      ]);
      await docker(["cp", `${folder}/lab`, `${name}:/lab`]);
      if (existsSync(`${folder}/init`))
        await docker(["cp", `${folder}/init/.`, `${name}:/docker-entrypoint-initdb.d/`]);
      await docker(["start", name]);
    };
  }

  /** Creates an empty database on a target, and returns the import that fills it from a source. */
  async newImport(source: Source, server: Server, name = "game"): Promise<ImportSpec> {
    this.databasesMade += 1;
    const database = `${name}_${this.databasesMade}`;
    await server.sql("postgres", `CREATE DATABASE ${ident(database)}`);
    return {
      source,
      target: targetOf(server, database),
      stack: this.id,
      image: TARGET_IMAGE,
      newerImage: images().newerPostgres,
      dockerHost: undefined,
      jobs: 2,
      reportFolder: join(this.folder, "reports", database),
    };
  }

  /** Returns the containers of imports that still exist, after a short wait for those that are being removed. */
  async leftContainers(): Promise<string[]> {
    for (let tries = 0; ; tries += 1) {
      const left = await docker(["ps", "-aq", "--filter", `label=${helperLabel(this.id)}`]);
      const ids = left.split("\n").filter(Boolean);
      if (ids.length === 0 || tries === 50) return ids;
      await sleep(200);
    }
  }
}

export function targetOf(server: Server, database: string): Target {
  return {
    address: server.in(database),
    owner: ROLE_NAMES.owner,
    ownerPassword: ROLES_PASSWORD,
    roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
    preparation: (name) => preparationScript(name, DENY_LIST),
    fromContainer: besideServer(server.container),
    container: server.container,
  };
}

/**
 * Enables TLS before any client can connect, as in the sample source. Arguments of the container would not work: the image also passes
 * them to the server that runs this script, which has no certificate yet.
 */
const TLS_SCRIPT = `
cp /lab/server.crt /lab/server.key "$PGDATA/"
chmod 600 "$PGDATA/server.key"
echo "ssl = on" >>"$PGDATA/postgresql.conf"
sed -i 's/^host all all all/hostssl all all all/' "$PGDATA/pg_hba.conf"
`;

/** Removes what ended test processes have left. */
async function removeOfTheDead(): Promise<void> {
  const found = await docker([
    "ps",
    "-a",
    "--filter",
    `label=${TEST_LABEL}`,
    "--format",
    '{{.Label "sectorwars.test.pid"}} {{.Label "sectorwars.test.run"}}',
  ]);
  for (const line of new Set(found.split("\n").filter(Boolean))) {
    const [pid = "", run = ""] = line.split(" ");
    if (run === "" || existsSync(`/proc/${pid}`)) continue;
    await removeContainers(`sectorwars.test.run=${run}`);
    await removeContainers(helperLabel(run));
    await docker(["network", "rm", run]).catch(() => {});
    const volumes = await docker(["volume", "ls", "-q", "--filter", `label=sectorwars.test.run=${run}`]);
    for (const volume of volumes.split("\n").filter(Boolean)) await docker(["volume", "rm", volume]).catch(() => {});
  }
}

/** The files of the sample, for a source that creates its rows when it starts. */
export async function sampleFiles(): Promise<Record<string, string>> {
  const { translationsSql } = await import("../../components/import/source/translations.ts");
  return {
    "10-schema.sql": await readFile("sql/sample/10-schema.sql", "utf8"),
    "20-rows.sql": await readFile("sql/sample/20-rows.sql", "utf8"),
    "30-translations.sql": translationsSql(),
  };
}

export async function readReport(spec: ImportSpec): Promise<Report> {
  return JSON.parse(await readFile(join(spec.reportFolder, "import.json"), "utf8"));
}

/** Opens a lab with a source and a target of the target's version. The caller closes it. */
export async function openBothEnds(): Promise<{ lab: Lab; source: SourceServer; target: Server }> {
  const lab = await Lab.open();
  try {
    const [source, target] = await Promise.all([lab.startSource({ image: images().databaseBase }), lab.startTarget()]);
    return { lab, source, target };
  } catch (error) {
    await lab.close();
    throw error;
  }
}
