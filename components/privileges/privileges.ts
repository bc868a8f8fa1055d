/** Extensions and privileges of the database and of PostgreSQL's own databases, kept as sql/ says. */
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { preparationScript, serverScript } from "./scripts.ts";

/** Which database, and who must not read what. */
export interface PrivilegesArgs extends ServerAccess {
  database: string;
  /** Tables that readonly must not read; * stands for any characters. */
  denyList: readonly string[];
  /** What must be done before: the data, whose owner and grants this keeps right. */
  after: pulumi.Resource[];
}

/**
 * Runs sql/extensions.sql and sql/privileges.sql in the database, again whenever they or the roles' names change, when an update
 * finds that what guarded.ts lists was changed by hand, or when a refresh finds that any grant was. Inside a database the declarations are SQL, not the provider's
 * resources: the import needs the very same ones in a database that has no resources yet.
 */
export class Privileges extends pulumi.ComponentResource {
  readonly ready: pulumi.Resource;

  constructor(name: string, args: PrivilegesArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:privileges:Privileges", name, {}, opts);
    this.ready = new DatabaseGrants(
      "prepared",
      {
        ...superuserLogin(args),
        database: args.database,
        script: preparationScript(args.database, args.denyList),
        serverScript: serverScript(),
      },
      { parent: this, dependsOn: args.after, deletedWith: args.volume },
    );
    this.registerOutputs({ database: args.database });
  }
}

/** Inputs of {@link DatabaseGrants}. */
export interface DatabaseGrantsInputs extends SuperuserLogin {
  database: string;
  /** What runs in the database. */
  script: string;
  /** What runs in the server's own database. */
  serverScript: string;
}

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
