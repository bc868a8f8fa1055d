/** Further databases in the same server, for instance for regions or a nexus, each with its own roles, passwords and privileges. */
import * as pulumi from "@pulumi/pulumi";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { rolesOf } from "../../lib/role-names.ts";
import type { ImportSettings } from "../import/neon-import.ts";
import { createRole } from "../roles/create-role.ts";
import { limitRoles } from "../roles/role-timeouts.ts";
import type { RoleAccess, Roles } from "../roles/roles.ts";
import { urlsFor } from "../roles/urls.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import type { DatabasesSettings } from "./settings.ts";

/** The roles that each further database has; the monitor is shared. */
export const OWN_ROLES = ["owner", "app", "readonly"] as const;
type OwnRole = (typeof OWN_ROLES)[number];

/** The roles of a further database. */
type OwnAccess = Readonly<Record<OwnRole, RoleAccess>>;

/** Arguments of {@link Databases}. */
export interface DatabasesArgs {
  /** The server that contains the databases. */
  server: ServerAccess;
  /** The roles of the stack, with the provider that creates roles as the superuser. */
  roles: Pick<Roles, "provider" | "timeouts">;
  /** Tables that readonly must not read; * stands for any characters. */
  denyList: readonly string[];
  /** The databases' names. */
  settings: DatabasesSettings;
  /** How an import into a database copies. */
  importSettings: Pick<ImportSettings, "jobs" | "newerImage">;
}

/** The databases, created one after another. No database depends on data of another. */
export class Databases extends pulumi.ComponentResource {
  /** The roles of each database. */
  readonly access: Readonly<Record<string, OwnAccess>>;
  /** The URLs of each database for connections from this machine; secret. */
  readonly urls: Record<string, Record<OwnRole, pulumi.Output<string>>>;

  constructor(name: string, args: DatabasesArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:databases:Databases", name, {}, opts);
    const { server, settings } = args;
    // Comes first, so that its error prevents every drop.
    let last: pulumi.Resource = new DatabaseList(
      `${name}-list`,
      {
        names: [...settings.names],
        droppable: [...settings.droppable],
        ...superuserLogin(server),
      },
      { ...childOf(this, "list"), deletedWith: server.volume },
    );
    const access: Record<string, OwnAccess> = {};
    for (const database of settings.names) {
      const roles = this.createRoles(name, database, args, last);
      last = this.createDatabase(name, database, args, roles.access.owner, roles.last);
      access[database] = roles.access;
    }
    this.access = access;
    const limited = Object.values(access).flatMap(({ app, readonly }) => [app.name, readonly.name]);
    const { timeouts } = args.roles;
    if (timeouts !== undefined && limited.length > 0) {
      limitRoles(`${name}-limits`, { server, roles: limited, timeouts }, { parent: this, dependsOn: last });
    }
    this.urls = Object.fromEntries(
      Object.entries(access).map(([database, roles]) => [
        database,
        urlsFor({ host: server.host, port: server.port, database }, roles),
      ]),
    );
    this.registerOutputs({ names: [...settings.names] });
  }

  /** Creates a database's roles after `previous`. Returns them, and the last resource. */
  private createRoles(name: string, database: string, { server, roles }: DatabasesArgs, previous: pulumi.Resource) {
    const names = rolesOf(database);
    const common = { parent: this, parentName: name, server, provider: roles.provider };
    let last = previous;
    const create = (key: OwnRole): RoleAccess => {
      const { access, resource } = createRole({
        ...common,
        key: `${database}-${key}`,
        role: names[key],
        previous: last,
      });
      last = resource;
      return access;
    };
    const access: OwnAccess = { owner: create("owner"), app: create("app"), readonly: create("readonly") };
    return { access, last };
  }

  private createDatabase(
    name: string,
    database: string,
    args: DatabasesArgs,
    owner: RoleAccess,
    previous: pulumi.Resource,
  ): pulumi.Resource {
    const { server } = args;
    return new Database(
      `${name}-${database}`,
      {
        stack: server.stack,
        ...superuserLogin(server),
        database,
        ownerPassword: owner.password,
        denyList: [...args.denyList],
        container: server.containerName,
        network: server.networkName,
        alias: server.alias,
        image: server.imageId,
        newerImage: args.importSettings.newerImage,
        jobs: args.importSettings.jobs,
        dockerHost: server.dockerHost,
      },
      { ...childOf(this, database), deletedWith: server.volume, dependsOn: previous },
    );
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

/** Inputs of one database's resource. */
export interface DatabaseInputs extends SuperuserLogin {
  stack: string;
  database: string;
  /** The password of the database's owner, in whose sessions an import loads the data. */
  ownerPassword: string;
  denyList: string[];
  /** The server's container, for imports, like the network and the images below. */
  container: string;
  network: string;
  alias: string;
  image: string;
  newerImage: string;
  jobs: number;
  dockerHost: string | undefined;
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
