/** The server's roles and their passwords. */
import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import { RandomPassword } from "@pulumi/random";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { ROLE_NAMES, type RoleKey } from "../../lib/role-names.ts";
import { passwordVerifier } from "../../lib/scram.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { takeOver } from "./kept-roles.ts";

/** Alphanumeric, because `%` breaks Alembic's configuration, and other characters break URLs. 32 characters are 190 bits. */
export const PASSWORD = { length: 32, special: false };

/** Arguments of {@link Roles}. */
export interface RolesArgs extends ServerAccess {
  /** The stack's database. */
  database: string;
  /** The resource that is ready once the server accepts connections. */
  ready: pulumi.Resource;
}

/** A role's name and password. */
export interface RoleAccess {
  name: string;
  password: pulumi.Output<string>;
}

/** Owner, app, readonly and monitor, each with a generated password. */
export class Roles extends pulumi.ComponentResource {
  readonly access: Readonly<Record<RoleKey, RoleAccess>>;
  /** Ready once all roles exist, with their passwords, attributes and memberships as declared. */
  readonly ready: pulumi.Resource;
  /** Creates roles as the superuser. */
  readonly provider: postgresql.Provider;

  constructor(name: string, args: RolesArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:roles:Roles", name, {}, opts);
    const provider = new postgresql.Provider(
      "superuser",
      {
        host: args.host,
        port: args.port,
        username: args.superuser,
        password: args.superuserPassword,
        // Set explicitly, because the provider's defaults come from PGDATABASE, PGSSLMODE and PGCONNECT_TIMEOUT.
        database: "postgres",
        sslmode: "disable",
        connectTimeout: 60,
      },
      { parent: this, dependsOn: args.ready },
    );

    this.provider = provider;
    let last: pulumi.Resource = args.ready;
    const createRole = (key: RoleKey, more: Partial<postgresql.RoleArgs> = {}): RoleAccess => {
      const role = ROLE_NAMES[key];
      const password = new RandomPassword(
        `${key}-password`,
        { ...PASSWORD, keepers: { version: String(args.passwordVersion) } },
        { parent: this },
      ).result;
      // One after another: roles are rows of one shared catalog, and concurrent writers to it conflict.
      last = new postgresql.Role(
        key,
        { name: role, login: true, password: password.apply((clear) => passwordVerifier(role, clear)), ...more },
        { parent: this, provider, dependsOn: last, deletedWith: args.volume, hooks: takeOver(args, role) },
      );
      return { name: role, password };
    };

    this.access = {
      owner: createRole("owner"),
      app: createRole("app"),
      readonly: createRole("readonly"),
      monitor: createRole("monitor", { roles: ["pg_monitor"] }),
    };
    const kept = new KeptRoles(
      "kept-roles",
      { host: args.host, port: args.port, user: args.superuser, password: args.superuserPassword },
      { parent: this, dependsOn: last, deletedWith: args.volume },
    );
    // After adopted roles have their names back, because they may have drifted under the former stack.
    this.ready = new RoleDrift(
      "role-drift",
      { ...superuserLogin(args), database: args.database },
      { parent: this, dependsOn: kept, deletedWith: args.volume },
    );
    this.registerOutputs({ names: Object.values(ROLE_NAMES) });
  }
}

/** Inputs of {@link KeptRoles}. */
export interface KeptRolesInputs {
  host: string;
  port: number;
  user: string;
  password: string;
}

class KeptRoles extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("roles:KeptRoles", "components/roles/kept-roles-provider.ts", name, inputs, ["taken"], opts);
  }
}

/** Inputs of {@link RoleDrift}. */
export interface RoleDriftInputs extends SuperuserLogin {
  database: string;
}

class RoleDrift extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("roles:RoleDrift", "components/roles/role-drift-provider.ts", name, inputs, ["fingerprint"], opts);
  }
}
