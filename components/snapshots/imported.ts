/** The save point that `./db reset` goes back to: the database as the import left it. */
import type * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";

/** Inputs of {@link ImportedState}. */
export interface ImportedStateInputs extends SuperuserLogin {
  database: string;
  container: string;
  dockerHost: string | undefined;
}

/** What to save, and when. */
export interface ImportedStateArgs extends ServerAccess {
  database: string;
  container: string;
  dockerHost: string | undefined;
  /** Data and privileges must be in place. */
  after: pulumi.Resource[];
}

/** Made once, in the update that imports. A stack whose import is of another day gets none: its rows have changed since. */
export class ImportedState extends ResourceOnDisk {
  constructor(name: string, args: ImportedStateArgs, opts?: pulumi.CustomResourceOptions) {
    const { database, container, dockerHost, after, volume } = args;
    const inputs = { ...superuserLogin(args), database, container, dockerHost };
    super("snapshots:ImportedState", "components/snapshots/imported-provider.ts", name, inputs, [], {
      ...opts,
      dependsOn: after,
      deletedWith: volume,
    });
  }
}
