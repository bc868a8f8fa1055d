/** Hands the database over to the application: a block in its .env file, and a Compose file that overrides its own. */
import { resolve } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { PoolBudget, Pools } from "../../lib/pool-budget.ts";
import type { Databases } from "../databases/databases.ts";
import type { Replicas } from "../replicas/replicas.ts";
import type { RoleAccess, Roles } from "../roles/roles.ts";
import { type ServerAccess, superuserLogin } from "../server/server-access.ts";
import { LOOPBACK } from "../server/settings.ts";
import type { Login, Logins, Published } from "./database-names.ts";
import { folderProblem } from "./files.ts";
import { type PooledHandOver, type PoolerAccess, pooledHandOver } from "./pooled.ts";
import type { HandOverSettings } from "./settings.ts";
import { TestDatabase } from "./test-database.ts";

/** Which database the application uses. */
export type Target = "local" | "neon";
/** SQLAlchemy's name of the driver in a URL's scheme; `none` keeps the application's own. */
export type Driver = "none" | "psycopg2" | "psycopg" | "asyncpg";

/** Arguments of {@link HandOver}. */
export interface HandOverArgs {
  /** The server with the application's database. */
  server: ServerAccess;
  /** The roles of the database. The services log in as one of them. */
  roles: Pick<Roles, "access">;
  /** The further databases, whose app roles the services get. */
  databases: Pick<Databases, "access">;
  /** The read replicas, which the services reach as the role readonly; undefined if there are none. */
  replicas?: Pick<Replicas, "addresses" | "alias"> | undefined;
  /** The pooler that the services may connect through; undefined if the stack has none. */
  pooler?: PoolerAccess | undefined;
  /** The application's files, and the database that it uses. */
  settings: HandOverSettings;
}

/** The outputs of a hand-over. */
export interface HandOverSummary {
  file: pulumi.Output<string>;
  target: Target;
  pools: pulumi.Output<PoolBudget>;
  services: pulumi.Output<string[]>;
  /** The command that starts the services with the database; empty if there is no Compose file. */
  next: pulumi.Output<string>;
}

/**
 * The hand-over, which exists as long as the stack. `dependsOn` names what the local database must have before services use it. Services
 * that return to Neon do not wait for it.
 */
export class HandOver extends pulumi.ComponentResource {
  readonly summary: HandOverSummary;
  /** The application's files. A resource that depends on them instead of the component does not wait for the tests' database. */
  readonly files: pulumi.Resource;

  /** @throws {pulumi.ResourceError} if the application's folder does not exist. */
  constructor(name: string, args: HandOverArgs, opts: pulumi.ComponentResourceOptions = {}) {
    const { dependsOn, ...ownOptions } = opts;
    super("sectorwars:handover:HandOver", name, {}, ownOptions);
    const { server, roles, settings } = args;
    const wrong = folderProblem(resolve(settings.folder));
    if (wrong !== undefined) throw new pulumi.ResourceError(wrong, this, true);
    const testDatabase = `${server.database}_test`;
    const tests = new TestDatabase(
      `${name}-test-database`,
      { ...superuserLogin(server), database: testDatabase, owner: roles.access[settings.role].name },
      { ...childOf(this, "tests"), dependsOn, deletedWith: server.volume },
    );
    const files = new HandoverFiles(`${name}-files`, filesInputs(args, testDatabase), {
      ...childOf(this, "written"),
      dependsOn: settings.target === "neon" ? [] : tests,
    });
    this.files = files;
    this.summary = {
      file: files.path,
      target: settings.target,
      pools: files.budget,
      services: files.services,
      next: files.next,
    };
    this.registerOutputs(this.summary);
  }
}

/** Returns the inputs of {@link HandoverFiles}. */
function filesInputs(args: HandOverArgs, testDatabase: string): pulumi.Inputs {
  const { server, roles, databases, pooler, replicas, settings } = args;
  const pooled = pooledHandOver(settings, pooler);
  const login = roles.access[settings.role];
  const [replica] = replicas?.addresses ?? [];
  const further = Object.entries(databases.access).map(([database, { app }]) => [database, loginTo(database, app)]);
  return {
    stack: server.stack,
    folder: resolve(settings.folder),
    file: settings.file,
    composeFiles: [...settings.composeFiles],
    service: settings.service,
    networkKey: settings.networkKey,
    superuserServices: [...settings.superuserServices],
    superuser: { user: server.superuser, password: pulumi.secret(server.superuserPassword) },
    network: server.networkName,
    alias: server.alias,
    container: server.containerName,
    port: server.port,
    ...(server.host === LOOPBACK ? {} : { host: server.host }),
    ...(server.authority ? { authority: server.authority } : {}),
    image: server.imageName,
    dockerHost: server.dockerHost,
    target: settings.target,
    driver: settings.driver,
    logins: {
      main: loginTo(server.database, login),
      test: loginTo(testDatabase, login),
      further: Object.fromEntries(further),
      ...(replica ? { readonly: loginTo(server.database, roles.access.readonly) } : {}),
    },
    ...(replica && replicas ? { replicas: { alias: replicas.alias, port: replica.port } } : {}),
    pools: { ...settings.pools },
    poolTimeout: settings.poolTimeout,
    maxConnections: server.maxConnections,
    ...(pooled && { pooled }),
  };
}

const loginTo = (database: string, { name, password }: RoleAccess) => ({
  database,
  user: name,
  password: pulumi.secret(password),
});

/** Inputs of the resource, as its provider receives them. */
export interface HandOverInputs {
  stack: string;
  folder: string;
  file: string;
  composeFiles: string[];
  service: string;
  networkKey: string;
  superuserServices: string[];
  superuser: Pick<Login, "user" | "password">;
  network: string;
  alias: string;
  container: string;
  port: number;
  /** Missing without read replicas. */
  replicas?: Published;
  /** The address of {@link port}; undefined for 127.0.0.1. */
  host?: string;
  /** The authority of the server's certificate, PEM; undefined for a server without TLS. */
  authority?: string;
  image: string;
  dockerHost: string | undefined;
  target: Target;
  driver: Driver;
  /** With the target neon, the provider finds the remote URL, which stays out of the state. */
  logins: Logins;
  pools: Pools;
  poolTimeout: number;
  maxConnections: number;
  /** Missing if the services connect to the server directly. */
  pooled?: PooledHandOver | undefined;
}

/** Outputs that the provider adds. */
export interface HandOverOutputs {
  path: string;
  budget: PoolBudget;
  services: string[];
  next: string;
  fingerprint: string;
}

class HandoverFiles extends ResourceOnDisk {
  declare readonly path: pulumi.Output<string>;
  declare readonly budget: pulumi.Output<PoolBudget>;
  declare readonly services: pulumi.Output<string[]>;
  declare readonly next: pulumi.Output<string>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    const outputs = ["path", "budget", "services", "next", "fingerprint"];
    super("handover:Written", "components/handover/handover-provider.ts", name, inputs, outputs, opts);
  }
}
