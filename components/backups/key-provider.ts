/** Creates the key file once, and never replaces the key. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import type { BackupKeyInputs } from "./key.ts";
import { keyName, newKey, readKeyFile, writeKeyFile } from "./key-file.ts";

const fingerprint = (inputs: BackupKeyInputs) => inputsFingerprint({ file: inputs.file });

/** Creates the key, or adopts the key in an existing file: from another machine, or after the state was lost. */
export const provider: dynamic.ResourceProvider = {
  async diff(id, olds, news: BackupKeyInputs) {
    return diffByFingerprint(id, olds, { file: news.file });
  },

  async create(inputs: BackupKeyInputs) {
    const known = await readKeyFile(inputs.file);
    if (known === undefined && inputs.mustExist) {
      throw new Error(
        `bootstrap is backup, but there is no key file ${inputs.file}, so the backups cannot be read. Copy your key file there ` +
          `(docs/recovery.md).`,
      );
    }
    const key = known?.key ?? newKey();
    if (known === undefined) await writeKeyFile(inputs.file, inputs.stack, key);
    return { id: keyName(key), outs: { ...inputs, key, fingerprint: fingerprint(inputs) } };
  },

  /** Runs only after the file was lost, and writes it again from the state. */
  async update(_id, olds: BackupKeyInputs & { key: string }, news: BackupKeyInputs) {
    const known = await readKeyFile(news.file);
    if (known === undefined) await writeKeyFile(news.file, news.stack, olds.key);
    else if (known.key !== olds.key) {
      throw new Error(
        `The key file ${news.file} contains the key ${keyName(known.key)}, but the stack's backups are encrypted with ` +
          `${keyName(olds.key)}. Move the file away, then run pulumi up, which writes the right one.`,
      );
    }
    return { outs: { ...news, key: olds.key, fingerprint: fingerprint(news) } };
  },

  /** If the file is missing, the next update writes it again, with the same key. */
  async read(id, props) {
    if (props === undefined)
      throw new Error("pulumi import cannot import a backup key; put the key file in place, then run pulumi up");
    const known = await readKeyFile(props.file);
    return { id, props: known === undefined ? { ...props, fingerprint: "its file is gone" } : props };
  },
};
