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
export interface ImportedStateArgs {
  /** The server with the database, whose data and privileges must be complete. */
  server: ServerAccess;
}

/** Makes the snapshot once, in the update that imports. Later the rows have changed, so a later update does not make it. */
export class ImportedState extends ResourceOnDisk {
  constructor(name: string, { server }: ImportedStateArgs, opts?: pulumi.CustomResourceOptions) {
    const inputs = {
      ...superuserLogin(server),
      database: server.database,
      container: server.containerName,
      dockerHost: server.dockerHost,
    };
    super("snapshots:ImportedState", "components/snapshots/imported-provider.ts", name, inputs, [], {
      ...opts,
      deletedWith: server.volume,
    });
  }
}
