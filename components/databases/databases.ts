/** Further databases in the same server, for instance for regions or a nexus, each with its own roles, passwords and privileges. */
import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import { RandomPassword } from "@pulumi/random";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { rolesOf } from "../../lib/role-names.ts";
import { passwordVerifier } from "../../lib/scram.ts";
import { takeOver } from "../roles/kept-roles.ts";
import { PASSWORD, type RoleAccess } from "../roles/roles.ts";
import { urlsFor } from "../roles/urls.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";

/** The roles that each further database has; the monitor is shared. */
export const OWN_ROLES = ["owner", "app", "readonly"] as const;
type OwnRole = (typeof OWN_ROLES)[number];

/** Arguments of {@link Databases}. */
export interface DatabasesArgs extends ServerAccess {
  stack: string;
  /** Creates roles as the superuser. */
  provider: postgresql.Provider;
  names: readonly string[];
  /** Databases that may be dropped once they are no longer among the names. */
  droppable: readonly string[];
  denyList: readonly string[];
  /** The server's container, for imports, like the images and the network below. */
  container: string;
  network: pulumi.Input<string>;
  alias: string;
  image: pulumi.Input<string>;
  newerImage: string;
  jobs: number;
  dockerHost: string | undefined;
  after: pulumi.Resource[];
}

/** The databases, created one after another. No database depends on data of another. */
export class Databases extends pulumi.ComponentResource {
  /** The roles of each database. */
  readonly access: Readonly<Record<string, Readonly<Record<OwnRole, RoleAccess>>>>;
  /** The URLs of each database for connections from this machine; secret. */
  readonly urls: Record<string, Record<OwnRole, pulumi.Output<string>>>;
  readonly ready: pulumi.Resource[];

  constructor(name: string, args: DatabasesArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:databases:Databases", name, {}, opts);
    const own = { parent: this, deletedWith: args.volume };
    // Comes first, so that its error prevents every drop.
    const list = new DatabaseList(
      "list",
      {
        names: [...args.names],
        droppable: [...args.droppable],
        ...superuserLogin(args),
      },
      { ...own, dependsOn: args.after },
    );
    const access: Record<string, Record<OwnRole, RoleAccess>> = {};
    let last: pulumi.Resource = list;
    this.ready = args.names.map((database) => {
      const roles = rolesOf(database);
      const made = OWN_ROLES.map((key): [OwnRole, RoleAccess] => {
        const password = new RandomPassword(
          `${database}-${key}-password`,
          { ...PASSWORD, keepers: { version: String(args.passwordVersion) } },
          { parent: this },
        ).result;
        last = new postgresql.Role(
          `${database}-${key}`,
          { name: roles[key], login: true, password: password.apply((clear) => passwordVerifier(roles[key], clear)) },
          { ...own, provider: args.provider, dependsOn: last, hooks: takeOver(args, roles[key]) },
        );
        return [key, { name: roles[key], password }];
      });
      access[database] = Object.fromEntries(made) as Record<OwnRole, RoleAccess>;
      last = new Database(
        database,
        {
          stack: args.stack,
          ...superuserLogin(args),
          database,
          ownerPassword: (access[database] as Record<OwnRole, RoleAccess>).owner.password,
          denyList: [...args.denyList],
          container: args.container,
          network: args.network,
          alias: args.alias,
          image: args.image,
          newerImage: args.newerImage,
          jobs: args.jobs,
          dockerHost: args.dockerHost,
        },
        { ...own, dependsOn: last },
      );
      return last;
    });
    this.access = access;
    this.urls = Object.fromEntries(
      Object.entries(access).map(([database, roles]) => [
        database,
        urlsFor({ host: args.host, port: args.port, database }, roles),
      ]),
    );
    this.registerOutputs({ names: [...args.names] });
  }
}

/** Inputs of {@link DatabaseList}. */
export interface DatabaseListInputs extends SuperuserLogin {
  names: string[];
  droppable: string[];
}

class DatabaseList extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("databases:DatabaseList", "components/databases/list-provider.ts", name, inputs, [], opts);
  }
}

type OwnInputs = pulumi.Unwrap<Omit<DatabasesArgs, keyof ServerAccess | "provider" | "names" | "droppable" | "after">>;

/** Inputs of one database's resource. */
export interface DatabaseInputs extends SuperuserLogin, OwnInputs {
  database: string;
  /** The password of the database's owner, in whose sessions an import loads the data. */
  ownerPassword: string;
}

class Database extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super(
      "databases:Database",
      "components/databases/database-provider.ts",
      name,
      inputs,
      ["guarded", "fingerprint"],
      opts,
    );
  }
}
