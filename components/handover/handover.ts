/** Hands the database over to the application: a block in its .env file, and a Compose file that overrides its own. */
import { resolve } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { PoolBudget, Pools } from "../../lib/pool-budget.ts";
import type { RoleAccess } from "../roles/roles.ts";
import { type ServerAccess, superuserLogin } from "../server/server-access.ts";
import type { Login, Logins } from "./database-names.ts";
import { folderProblem } from "./files.ts";
import { TestDatabase } from "./test-database.ts";

/** Which database the application uses. */
export type Target = "local" | "neon";
/** SQLAlchemy's name of the driver in a URL's scheme; `none` keeps the application's own. */
export type Driver = "none" | "psycopg2" | "psycopg" | "asyncpg";

/** Arguments of {@link HandOver}. */
export interface HandOverArgs extends ServerAccess {
  stack: string;
  database: string;
  alias: string;
  container: pulumi.Input<string>;
  network: pulumi.Input<string>;
  superuserPassword: pulumi.Output<string>;
  /** The role that the services log in as. */
  login: RoleAccess;
  /** The roles for further databases, by the database's name. */
  logins: Readonly<Record<string, RoleAccess>>;
  /** The application's folder. */
  folder: string;
  /** The env file that gets the variables, relative to the folder. */
  file: string;
  /** The application's Compose files; empty for the default files of docker compose. */
  composeFiles: readonly string[];
  /** The names of the application's database service and of its network. */
  service: string;
  networkKey: string;
  /** Services that also get the superuser's login, to create databases and roles. */
  superuserServices: readonly string[];
  target: Target;
  driver: Driver;
  pools: Pools;
  /** Seconds that a service waits for a connection. */
  poolTimeout: number;
  maxConnections: number;
  dockerHost: string | undefined;
  /** An image that contains pg_isready. */
  image: pulumi.Input<string>;
  after: pulumi.Resource[];
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

/** The hand-over, which exists as long as the stack. */
export class HandOver extends pulumi.ComponentResource {
  readonly summary: HandOverSummary;
  readonly ready: pulumi.Resource;

  /** @throws {pulumi.ResourceError} if the application's folder does not exist. */
  constructor(name: string, args: HandOverArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:handover:HandOver", name, {}, opts);
    const { target, login } = args;
    const wrong = folderProblem(resolve(args.folder));
    if (wrong !== undefined) throw new pulumi.ResourceError(wrong, this);
    const testDatabase = `${args.database}_test`;
    const tests = new TestDatabase(
      "tests",
      {
        ...superuserLogin(args),
        database: testDatabase,
        owner: login.name,
      },
      { parent: this, dependsOn: args.after, deletedWith: args.volume },
    );
    const further = Object.entries(args.logins).map(([database, who]) => [database, loginTo(database, who)]);
    const files = new HandoverFiles(
      "written",
      {
        stack: args.stack,
        folder: resolve(args.folder),
        file: args.file,
        composeFiles: [...args.composeFiles],
        service: args.service,
        networkKey: args.networkKey,
        superuserServices: [...args.superuserServices],
        superuser: { user: args.superuser, password: pulumi.secret(args.superuserPassword) },
        network: args.network,
        alias: args.alias,
        container: args.container,
        port: args.port,
        image: args.image,
        dockerHost: args.dockerHost,
        target,
        driver: args.driver,
        logins: {
          main: loginTo(args.database, login),
          test: loginTo(testDatabase, login),
          further: Object.fromEntries(further),
        },
        pools: { ...args.pools },
        poolTimeout: args.poolTimeout,
        maxConnections: args.maxConnections,
      },
      // Services that return to Neon need not wait for the local database.
      { parent: this, dependsOn: target === "neon" ? [] : [...args.after, tests] },
    );
    this.ready = files;
    this.summary = {
      file: files.path,
      target,
      pools: files.budget,
      services: files.services,
      next: files.next,
    };
    this.registerOutputs(this.summary);
  }
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
  image: string;
  dockerHost: string | undefined;
  target: Target;
  driver: Driver;
  /** With the target neon, the provider finds the remote URL, which stays out of the state. */
  logins: Logins;
  pools: Pools;
  poolTimeout: number;
  maxConnections: number;
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
