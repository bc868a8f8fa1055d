/** The key that the backups are encrypted by. */
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { keyFile } from "./key-file.ts";

/** Inputs of {@link BackupKey}. */
export interface BackupKeyInputs {
  stack: string;
  file: string;
  /** Where the data comes from backups, a new key would open none of them. */
  mustExist: boolean;
}

/** The key, with its file. It is generated once; a file that is there already is taken as it is. */
export class BackupKey extends ResourceOnDisk {
  declare readonly key: pulumi.Output<string>;

  constructor(name: string, args: { stack: string; mustExist: boolean }, opts?: pulumi.CustomResourceOptions) {
    const inputs = { stack: args.stack, file: keyFile(args.stack), mustExist: args.mustExist };
    super("backups:BackupKey", "components/backups/key-provider.ts", name, inputs, ["key", "fingerprint"], {
      ...opts,
      additionalSecretOutputs: ["key"],
    });
    // Also before the first update, and for whatever a language host thinks of additionalSecretOutputs.
    this.key = pulumi.secret(this.key);
  }
}
