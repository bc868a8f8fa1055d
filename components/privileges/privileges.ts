/** Extensions and privileges of the database and of PostgreSQL's own databases, as defined in sql/. */
import * as pulumi from "@pulumi/pulumi";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { preparationScript, serverScript } from "./scripts.ts";

/** Arguments of {@link Privileges}. */
export interface PrivilegesArgs {
  /** The server with the database and its roles. */
  server: ServerAccess;
  /** Tables that readonly must not read; * stands for any characters. */
  denyList: readonly string[];
}

/**
 * Runs sql/extensions.sql and sql/privileges.sql in the database. Runs them again if they or the roles' names change, if an update finds
 * a change by hand in what guarded.ts lists, or if a refresh finds one in any grant. The declarations are SQL and not resources of the
 * postgresql provider, because the import needs the same ones in a database that has no resources yet.
 */
export class Privileges extends pulumi.ComponentResource {
  constructor(name: string, { server, denyList }: PrivilegesArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:privileges:Privileges", name, {}, opts);
    new DatabaseGrants(
      `${name}-grants`,
      {
        ...superuserLogin(server),
        database: server.database,
        script: preparationScript(server.database, denyList),
        serverScript: serverScript(),
      },
      { ...childOf(this, "prepared"), deletedWith: server.volume },
    );
    this.registerOutputs({ database: server.database });
  }
}

/** Inputs of {@link DatabaseGrants}. */
export interface DatabaseGrantsInputs extends SuperuserLogin {
  database: string;
  /** The SQL for the database. */
  script: string;
  /** The SQL for the server's own database. */
  serverScript: string;
}

/** The database's privileges. Stacks have the type and the module's path in their state, so both keep their former names. */
class DatabaseGrants extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super(
      "privileges:Prepared",
      "components/privileges/prepared-provider.ts",
      name,
      inputs,
      ["grants", "guarded", "fingerprint"],
      opts,
    );
  }
}
