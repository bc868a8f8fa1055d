/** Hands the database over to the application: an .env block, and a Compose file that lies over its own. */
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
/** What SQLAlchemy calls the driver in a URL's scheme; `none` leaves it to the application. */
export type Driver = "none" | "psycopg2" | "psycopg" | "asyncpg";

/** What to hand over, and where to. */
export interface HandOverArgs extends ServerAccess {
  stack: string;
  database: string;
  alias: string;
  container: pulumi.Input<string>;
  network: pulumi.Input<string>;
  superuserPassword: pulumi.Output<string>;
  /** Whom the services log in as. */
  login: RoleAccess;
  /** Whom they log in as in further databases, by the database's name. */
  logins: Readonly<Record<string, RoleAccess>>;
  /** The application's folder. */
  folder: string;
  /** The file that gets the variables, inside the folder. */
  file: string;
  /** The application's Compose files; none are those that docker compose finds by itself. */
  composeFiles: readonly string[];
  /** Name of the application's database service, and of its network. */
  service: string;
  networkKey: string;
  /** Services that log in as the superuser as well, to make databases and roles. */
  superuserServices: readonly string[];
  target: Target;
  driver: Driver;
  pools: Pools;
  /** Seconds that a service waits for a connection. */
  poolTimeout: number;
  maxConnections: number;
  dockerHost: string | undefined;
  /** Image with pg_isready. */
  image: pulumi.Input<string>;
  after: pulumi.Resource[];
}

/** What is told of a hand-over. */
export interface HandOverSummary {
  file: pulumi.Output<string>;
  target: Target;
  pools: pulumi.Output<PoolBudget>;
  services: pulumi.Output<string[]>;
  /** The command that starts the services on the database; empty where there is no Compose file. */
  next: pulumi.Output<string>;
}

/** The hand-over, kept as long as the stack is there. */
export class HandOver extends pulumi.ComponentResource {
  readonly summary: HandOverSummary;
  readonly ready: pulumi.Resource;

  /** @throws {pulumi.ResourceError} when there is no such folder. */
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
    const written = new Written(
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
      // Away from here the services may go at once, whatever the local database is like.
      { parent: this, dependsOn: target === "neon" ? [] : [...args.after, tests] },
    );
    this.ready = written;
    this.summary = {
      file: written.path,
      target,
      pools: written.budget,
      services: written.services,
      next: written.next,
    };
    this.registerOutputs(this.summary);
  }
}

const loginTo = (database: string, { name, password }: RoleAccess) => ({
  database,
  user: name,
  password: pulumi.secret(password),
});

/** Inputs of the resource, as its provider gets them. */
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
  /** With the target neon, the remote URL is found by the provider, and stays out of the state. */
  logins: Logins;
  pools: Pools;
  poolTimeout: number;
  maxConnections: number;
}

/** What the provider adds. */
export interface HandOverOutputs {
  path: string;
  budget: PoolBudget;
  services: string[];
  next: string;
  fingerprint: string;
}

class Written extends ResourceOnDisk {
  declare readonly path: pulumi.Output<string>;
  declare readonly budget: pulumi.Output<PoolBudget>;
  declare readonly services: pulumi.Output<string[]>;
  declare readonly next: pulumi.Output<string>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    const outputs = ["path", "budget", "services", "next", "fingerprint"];
    super("handover:Written", "components/handover/handover-provider.ts", name, inputs, outputs, opts);
  }
}
