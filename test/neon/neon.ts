/**
 * A source that behaves like Neon where an import can notice it: a proxy that routes by host name, a pooled and a direct host, a
 * customer's role that is not a superuser, and Neon's own roles, schemas, extensions and default privileges in every database.
 *
 * It lacks security labels (they need a label provider, which neither Debian nor Alpine packages), Neon's storage, and the proxy's own
 * SCRAM exchange: this proxy forwards the password's proof to PostgreSQL, which has the same certificate.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { parseSourceUrl } from "../../components/import/source/source-url.ts";
import type { Source } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import { ident, literal } from "../../lib/postgres.ts";
import { images, type Lab, type SourceServer, secret } from "../support/lab.ts";
import { connect, withConnection } from "../support/session.ts";
import { Front, type Upstream } from "./front.ts";

const REGION = "eu-central-1.aws.neon.tech";
const EDGE_IMAGE = `sectorwars-test-neon-edge:${createHash("sha256").update(process.cwd()).digest("hex").slice(0, 8)}`;
/** The name of a container's host in every Docker engine. */
const HOST_GATEWAY = "host.docker.internal";
const POOLER_PORT = 6432;

/** Returns initdb's options on Neon's servers: C.UTF-8 of the C library before version 17, the built-in one since. */
const initdb = (version: number): string =>
  `--encoding=UTF8 --locale=C.UTF-8${version >= 17 ? " --locale-provider=builtin --builtin-locale=C.UTF-8" : ""}`;

/** Parts of a URL that differ from the default. */
export interface UrlParts {
  pooled?: boolean;
  password?: string;
  /** The part after the question mark. */
  query?: string;
}

/** A Neon project with its endpoint. */
export class Neon {
  readonly compute: SourceServer;
  readonly front: Front;
  readonly host: string;
  readonly pooledHost: string;
  /** The role that a Neon customer gets. */
  readonly owner = "neondb_owner";
  readonly password: string;
  private readonly network: string;

  private constructor(compute: SourceServer, front: Front, hosts: [string, string], password: string, network: string) {
    this.compute = compute;
    this.front = front;
    [this.host, this.pooledHost] = hosts;
    this.password = password;
    this.network = network;
  }

  /**
   * Starts a project.
   * @param endpoint its name, for instance ep-cool-name-123456.
   * @param version PostgreSQL's major version in `image`, which decides Neon's settings.
   */
  static async start(lab: Lab, endpoint: string, image: string, version: number): Promise<Neon> {
    const hosts: [string, string] = [`${endpoint}.${REGION}`, `${endpoint}-pooler.${REGION}`];
    const password = secret();
    const [compute] = await Promise.all([
      lab.startSource({
        image,
        hosts,
        superuser: "cloud_admin",
        initdb: initdb(version),
        // Neon's limit is five minutes. A short one fails every import session that does not disable the limit.
        settings: ["idle_in_transaction_session_timeout=1500ms", "wal_level=logical"],
      }),
      edgeImage(),
    ]);
    await compute.sql("postgres", await rolesSql(password));
    await addExtensions(compute);

    const gateway = await gatewayOf(lab.id);
    const upstreams: Record<string, Upstream> = {
      [hosts[0]]: { port: compute.admin.port, authority: compute.certificate.authority },
    };
    const front = await Front.open(compute.certificate, upstreams, ["127.0.0.1", gateway ?? "127.0.0.1"]);
    const pooler = await lab.startBeside({
      name: endpoint,
      image: EDGE_IMAGE,
      aliases: hosts,
      inside: POOLER_PORT,
      files: {
        "pgbouncer.ini": poolerSettings(compute.alias),
        "users.txt": `"neondb_owner" "${password}"\n`,
      },
      command: `socat TCP-LISTEN:5432,fork,reuseaddr TCP:${gateway ?? HOST_GATEWAY}:${front.port(1)} & exec pgbouncer /lab/pgbouncer.ini`,
    });
    upstreams[hosts[1]] = { port: pooler };
    const neon = new Neon(compute, front, hosts, password, lab.id);
    await (await connect(neon.source(neon.url("postgres")).address, { patienceMs: 10_000 })).end();
    return neon;
  }

  /** Stops the proxy. The lab removes the containers. */
  close(): Promise<void> {
    return this.front.close();
  }

  /** Returns a connection URL as the Neon console shows it. */
  url(database: string, parts: UrlParts = {}): string {
    const { pooled = false, password = this.password } = parts;
    const query = parts.query ?? "sslmode=require&channel_binding=require";
    return `postgresql://${this.owner}:${password}@${pooled ? this.pooledHost : this.host}/${database}?${query}`;
  }

  /** Returns the source that the import reads from a URL, with the proxy's address, because no name server knows these hosts. */
  source(url: string): Source {
    const source = parseSourceUrl(url, this.compute.certificate.authority);
    return {
      ...source,
      address: { ...source.address, host: "127.0.0.1", port: this.front.port(0) },
      fromContainer: { ...source.fromContainer, network: this.network },
    };
  }

  /** Returns the same source with the pooled host, which the import would replace by the direct one. */
  pooled(source: Source): Source {
    return {
      ...source,
      label: source.label.replace(this.host, this.pooledHost),
      address: { ...source.address, tls: { ...source.address.tls, servername: this.pooledHost } },
      fromContainer: { ...source.fromContainer, host: this.pooledHost },
    };
  }

  /** Creates a database with everything that Neon puts into it, and runs a script in it as its owner. */
  async makeDatabase(database: string, script: string): Promise<Source> {
    await this.compute.sql("postgres", `CREATE DATABASE ${ident(database)} OWNER ${ident(this.owner)}`);
    await this.compute.sql(database, await readFile("test/neon/database.sql", "utf8"));
    const source = this.source(this.url(database));
    await withConnection(source.address, (client) => client.query(script));
    return source;
  }
}

let building: Promise<unknown> | undefined;

/** Builds the image once for all projects. */
function edgeImage(): Promise<unknown> {
  const base = `BASE=${images().newerPostgres}`;
  building ??= docker(["build", "-q", "-t", EDGE_IMAGE, "--build-arg", base, "test/neon"], { timeoutMs: 180_000 });
  return building;
}

/** Returns this machine's address in the lab's network; undefined if Docker runs in a virtual machine. */
async function gatewayOf(network: string): Promise<string | undefined> {
  const gateway = await docker(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network]);
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses?.map(({ address }) => address) ?? []);
  return own.find((address) => address === gateway.trim());
}

/** PgBouncer's settings as on Neon: clients share server connections, so a session's settings reach other clients. */
const poolerSettings = (server: string): string => `
[databases]
* = host=${server} port=5432
[pgbouncer]
listen_addr = 0.0.0.0
listen_port = ${POOLER_PORT}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = /lab/users.txt
pool_mode = transaction
default_pool_size = 4
max_prepared_statements = 1000
server_tls_sslmode = require
ignore_startup_parameters = extra_float_digits
`;

async function rolesSql(password: string): Promise<string> {
  const roles = await readFile("test/neon/roles.sql", "utf8");
  return roles.replace(":'password'", literal(password));
}

/** Adds Neon's own extensions, as far as an import sees them: a name, a version and one object each. */
async function addExtensions(server: SourceServer): Promise<void> {
  const folder = await server.value<string>("postgres", "SELECT setting FROM pg_config WHERE name = 'SHAREDIR'");
  const script = `
    cd "$0/extension"
    printf "default_version = '1.6'\\nschema = neon\\n" >neon.control
    echo 'CREATE FUNCTION local_cache_pages() RETURNS bigint LANGUAGE sql AS $$ SELECT 0::bigint $$;' >neon--1.6.sql
    printf "default_version = '0.3.1'\\n" >pg_session_jwt.control
    cat >pg_session_jwt--0.3.1.sql <<'SQL'
      CREATE SCHEMA auth;
      CREATE FUNCTION auth.user_id() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('request.user', true) $$;
SQL`;
  await docker(["exec", "-u", "root", server.container, "sh", "-c", script, folder]);
}
