/** The server's roles and their passwords. */
import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { ROLE_NAMES, type RoleKey } from "../../lib/role-names.ts";
import { writeAuthority } from "../../lib/server-tls.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { createRole } from "./create-role.ts";
import { limitRoles } from "./role-timeouts.ts";
import type { RoleTimeouts } from "./settings.ts";
import { urlsFor } from "./urls.ts";

/** Arguments of {@link Roles}. */
export interface RolesArgs {
  /** The server, which must accept connections. */
  server: ServerAccess;
  /** Limits of the app and readonly roles; undefined for none. */
  timeouts?: RoleTimeouts;
}

/** A role's name and password. */
export interface RoleAccess {
  /** The role's name in the server. */
  readonly name: string;
  /** The role's password; secret. */
  readonly password: pulumi.Output<string>;
}

/** Owner, app, readonly and monitor, each with a generated password, and with attributes and memberships as declared. */
export class Roles extends pulumi.ComponentResource {
  readonly access: Readonly<Record<RoleKey, RoleAccess>>;
  /** The URLs of the superuser and of the roles, for connections from this machine; secret. */
  readonly urls: Readonly<Record<RoleKey | "superuser", pulumi.Output<string>>>;
  /** Creates roles as the superuser. */
  readonly provider: postgresql.Provider;
  /** Limits of the app and readonly roles; undefined for none. */
  readonly timeouts?: RoleTimeouts | undefined;

  constructor(name: string, { server, timeouts }: RolesArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:roles:Roles", name, {}, opts);
    this.timeouts = timeouts;
    this.provider = connectAsSuperuser(`${name}-superuser`, server, childOf(this, "superuser"));
    const common = { parent: this, parentName: name, server, provider: this.provider };
    let last: pulumi.Resource | undefined;
    const create = (key: RoleKey, memberOf?: string[]): RoleAccess => {
      const { access, resource } = createRole({ ...common, key, role: ROLE_NAMES[key], previous: last, memberOf });
      last = resource;
      return access;
    };
    this.access = {
      owner: create("owner"),
      app: create("app"),
      readonly: create("readonly"),
      monitor: create("monitor", ["pg_monitor"]),
    };
    const superuser = { name: server.superuser, password: pulumi.output(server.superuserPassword) };
    this.urls = urlsFor(server, { superuser, ...this.access });
    const kept = new KeptRoles(
      `${name}-kept`,
      {
        host: server.host,
        port: server.port,
        user: server.superuser,
        password: server.superuserPassword,
        ...(server.authority ? { authority: server.authority } : {}),
      },
      { ...childOf(this, "kept-roles"), dependsOn: last, deletedWith: server.volume },
    );
    // After adopted roles have their names back, because they may have drifted under the former stack.
    new RoleDrift(
      `${name}-drift`,
      { ...superuserLogin(server), database: server.database },
      { ...childOf(this, "role-drift"), dependsOn: kept, deletedWith: server.volume },
    );
    if (timeouts !== undefined) {
      const limited = [this.access.app.name, this.access.readonly.name];
      limitRoles(`${name}-limits`, { server, roles: limited, timeouts }, { parent: this, dependsOn: kept });
    }
    this.registerOutputs({ names: Object.values(ROLE_NAMES) });
  }
}

/** The provider reads the authority from a file, which every update writes, because another checkout does not have it. */
const verifyFull = (stack: string, authority: pulumi.Output<string>) => ({
  sslmode: "verify-full",
  sslrootcert: authority.apply((certificate) => writeAuthority(stack, certificate)),
});

const connectAsSuperuser = (name: string, server: ServerAccess, opts: pulumi.ResourceOptions): postgresql.Provider =>
  new postgresql.Provider(
    name,
    {
      host: server.host,
      port: server.port,
      username: server.superuser,
      password: server.superuserPassword,
      // Set explicitly, because the provider's defaults come from PGDATABASE, PGSSLMODE and PGCONNECT_TIMEOUT.
      database: "postgres",
      ...(server.authority ? verifyFull(server.stack, server.authority) : { sslmode: "disable" }),
      connectTimeout: 60,
    },
    opts,
  );

/** Inputs of {@link KeptRoles}. */
export interface KeptRolesInputs {
  host: string;
  port: number;
  user: string;
  password: string;
  authority?: string;
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
