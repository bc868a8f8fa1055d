/** Hands the database over to the application: an .env block, and a Compose file that lies over its own. */
import { resolve } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { RoleAccess } from "../roles/roles.ts";
import { urlFor } from "../roles/urls.ts";
import { type ServerAccess, superuserLogin } from "../server/server-access.ts";
import { insideName } from "./compose.ts";
import { folderProblem } from "./files.ts";
import type { PoolBudget, Pools } from "./pool-budget.ts";
import { TestDatabase } from "./test-database.ts";

/** Which database the application uses. */
export type Target = "local" | "neon";

/** The server's port inside the network. */
const PORT_INSIDE = 5432;

/** What to hand over, and where to. */
export interface HandOverArgs extends ServerAccess {
  stack: string;
  database: string;
  alias: string;
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
  /** Name of the application's database service, and of its network. */
  service: string;
  networkKey: string;
  /** Services that log in as the superuser as well, to make databases and roles. */
  superuserServices: readonly string[];
  target: Target;
  pools: Pools;
  /** Seconds that a service waits for a connection. */
  poolTimeout: number;
  budget: PoolBudget;
  dockerHost: string | undefined;
  /** Image with pg_isready. */
  image: pulumi.Input<string>;
  after: pulumi.Resource[];
}

/** The hand-over, kept as long as the stack is there. */
export class HandOver extends pulumi.ComponentResource {
  readonly summary: { file: pulumi.Output<string>; target: Target; pools: PoolBudget };
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
    const outside = (database: string, who = login) => urlFor({ host: "localhost", port: args.port, database }, who);
    const inside = (database: string, who = login) => urlFor({ host: args.alias, port: PORT_INSIDE, database }, who);
    const superuser = {
      DB_HOST: "localhost",
      DB_PORT: String(args.port),
      DB_SUPERUSER: args.superuser,
      DB_SUPERUSER_PASSWORD: args.superuserPassword,
    };
    const local = {
      DATABASE_URL: outside(args.database),
      [insideName("DATABASE_URL")]: inside(args.database),
      ...superuser,
    };
    const more = Object.entries(args.logins).flatMap(([database, who]) => {
      const variable = `DATABASE_URL_${database.toUpperCase()}`;
      return [
        [variable, outside(database, who)],
        [insideName(variable), inside(database, who)],
      ];
    });
    const written = new Written(
      "written",
      {
        stack: args.stack,
        folder: resolve(args.folder),
        file: args.file,
        service: args.service,
        networkKey: args.networkKey,
        superuserServices: [...args.superuserServices],
        network: args.network,
        alias: args.alias,
        image: args.image,
        dockerHost: args.dockerHost,
        target,
        databases: Object.keys(args.logins),
        variables: {
          ...(target === "local" ? local : {}),
          DATABASE_TEST_URL: outside(testDatabase),
          [insideName("DATABASE_TEST_URL")]: inside(testDatabase),
          ...Object.fromEntries(more),
          SQLALCHEMY_POOL_SIZE: String(args.pools.size),
          SQLALCHEMY_MAX_OVERFLOW: String(args.pools.overflow),
          SQLALCHEMY_POOL_TIMEOUT: String(args.poolTimeout),
        },
      },
      // Away from here the services may go at once, whatever the local database is like.
      { parent: this, dependsOn: target === "neon" ? [] : [...args.after, tests] },
    );
    this.ready = written;
    this.summary = { file: written.path, target, pools: args.budget };
    this.registerOutputs(this.summary);
  }
}

/** Inputs of the resource, as its provider gets them. */
export interface HandOverInputs {
  stack: string;
  folder: string;
  file: string;
  service: string;
  networkKey: string;
  superuserServices: string[];
  network: string;
  alias: string;
  image: string;
  dockerHost: string | undefined;
  target: Target;
  /** Further databases. */
  databases: string[];
  /** The block's variables; with the target neon, the URL is found by the provider, and stays out of the state. */
  variables: Record<string, string>;
}

class Written extends ResourceOnDisk {
  declare readonly path: pulumi.Output<string>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("handover:Written", "components/handover/handover-provider.ts", name, inputs, ["path", "fingerprint"], opts);
  }
}
