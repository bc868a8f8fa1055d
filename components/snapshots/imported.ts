/** The snapshot that `./db reset` restores: the database as the import left it. */
import type * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";

/** Inputs of {@link ImportedState}. */
export interface ImportedStateInputs extends SuperuserLogin {
  database: string;
  container: string;
  dockerHost: string | undefined;
}

/** Arguments of {@link ImportedState}. */
export interface ImportedStateArgs extends ServerAccess {
  database: string;
  container: string;
  dockerHost: string | undefined;
  /** The resources for data and privileges. */
  after: pulumi.Resource[];
}

/** Makes the snapshot once, in the update that imports. Later the rows have changed, so a later update does not make it. */
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
