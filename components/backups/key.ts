/** The key that encrypts the backups. */
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { keyFile } from "./key-file.ts";

/** Inputs of {@link BackupKey}. */
export interface BackupKeyInputs {
  stack: string;
  file: string;
  /** Whether the key file must exist. It must if the data comes from backups, because a new key could not decrypt them. */
  mustExist: boolean;
}

/** The key and its file. The key is generated once; an existing file is adopted. */
export class BackupKey extends ResourceOnDisk {
  declare readonly key: pulumi.Output<string>;

  constructor(name: string, args: { stack: string; mustExist: boolean }, opts?: pulumi.CustomResourceOptions) {
    const inputs = { stack: args.stack, file: keyFile(args.stack), mustExist: args.mustExist };
    super("backups:BackupKey", "components/backups/key-provider.ts", name, inputs, ["key", "fingerprint"], {
      ...opts,
      additionalSecretOutputs: ["key"],
    });
    // additionalSecretOutputs does not apply before the first update, and depends on the language host.
    this.key = pulumi.secret(this.key);
  }
}
