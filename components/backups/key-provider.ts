/** The key's file: made once, and never another in its place. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import type { BackupKeyInputs } from "./key.ts";
import { keyName, newKey, readKeyFile, writeKeyFile } from "./key-file.ts";

const fingerprint = (inputs: BackupKeyInputs) => inputsFingerprint({ file: inputs.file });

/** Makes the key, or takes the one over that a file holds: from a state that was lost, or another machine. */
export const provider: dynamic.ResourceProvider = {
  async diff(id, olds, news: BackupKeyInputs) {
    return diffByFingerprint(id, olds, { file: news.file });
  },

  async create(inputs: BackupKeyInputs) {
    const known = await readKeyFile(inputs.file);
    if (known === undefined && inputs.mustExist) {
      throw new Error(
        `bootstrap is backup, but the key to the backups is not at ${inputs.file}. Copy the key file there from the safe ` +
          `place where it was put (docs/recovery.md).`,
      );
    }
    const key = known?.key ?? newKey();
    if (known === undefined) await writeKeyFile(inputs.file, inputs.stack, key);
    return { id: keyName(key), outs: { ...inputs, key, fingerprint: fingerprint(inputs) } };
  },

  /** Only after the file was lost: it is written again from what the state knows. */
  async update(_id, olds: BackupKeyInputs & { key: string }, news: BackupKeyInputs) {
    const known = await readKeyFile(news.file);
    if (known === undefined) await writeKeyFile(news.file, news.stack, olds.key);
    else if (known.key !== olds.key) {
      throw new Error(
        `The key file ${news.file} holds another key (${keyName(known.key)}) than the stack's backups have ` +
          `(${keyName(olds.key)}). Move it away, and pulumi up writes the right one.`,
      );
    }
    return { outs: { ...news, key: olds.key, fingerprint: fingerprint(news) } };
  },

  /** A file that is gone is no reason for another key: the next update writes the same one again. */
  async read(id, props) {
    if (props === undefined)
      throw new Error("a key is not taken over by pulumi import; put its file in place, then pulumi up");
    const known = await readKeyFile(props.file);
    return { id, props: known === undefined ? { ...props, fingerprint: "its file is gone" } : props };
  },
};
