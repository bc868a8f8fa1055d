/** The save point that `npm run reset` goes back to: the database as the import left it. */
import type * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";

/** Inputs of {@link ImportedState}. */
export interface ImportedStateInputs {
  host: string;
  port: number;
  user: string;
  password: string;
  /** Counts up with every new password, so that the state never keeps an old one. */
  passwordVersion: number;
  database: string;
  container: string;
  dockerHost: string | undefined;
}

/** What to save, and when. */
export interface ImportedStateArgs {
  host: string;
  port: number;
  superuser: string;
  superuserPassword: pulumi.Input<string>;
  passwordVersion: number;
  database: string;
  container: string;
  dockerHost: string | undefined;
  /** Data and privileges must be in place. */
  after: pulumi.Resource[];
  volume: pulumi.Resource;
}

/** Made once, in the update that imports. A stack whose import is of another day gets none: its rows have changed since. */
export class ImportedState extends ResourceOnDisk {
  constructor(name: string, args: ImportedStateArgs, opts?: pulumi.CustomResourceOptions) {
    const { host, port, superuser: user, superuserPassword: password, passwordVersion, after, volume } = args;
    const { database, container, dockerHost } = args;
    const inputs = { host, port, user, password, passwordVersion, database, container, dockerHost };
    super("snapshots:ImportedState", "components/snapshots/imported-provider.ts", name, inputs, [], {
      ...opts,
      dependsOn: after,
      deletedWith: volume,
    });
  }
}
