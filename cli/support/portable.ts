/** `./db backup --portable`: portable copies, which need neither this program nor this machine. */
import { relative, resolve } from "node:path";
import { Option } from "@commander-js/extra-typings";
import { humanBytes } from "../../lib/human-bytes.ts";
import { defaultIdentityFile } from "../../lib/identity-file.ts";
import { addressOf, readConfig, readStack } from "../../lib/stack.ts";
import { CALLER_FOLDER, fromCaller } from "./paths.ts";

/** The options of a portable copy. */
export interface PortableOptions {
  check?: string;
  folder: string;
  recipient?: string;
  identity?: string;
  json: boolean;
}

const FOLDER = "backups/portable";

/** The option for the folder with the portable copies. The default is in the project's folder. */
export const portableFolderOption = () =>
  new Option("--folder <path>", "the folder with the portable copies")
    .argParser(fromCaller)
    .default(resolve(FOLDER), FOLDER);

/** Returns the value of an option, or else of a setting; undefined if neither is set. */
async function chosen(stack: string, value: string | undefined, setting: string): Promise<string | undefined> {
  if (value !== undefined) return value;
  const set = (await readConfig(stack)).get(setting);
  return set === "auto" ? undefined : set;
}
const identityFileOf = async (stack: string, { identity }: PortableOptions) =>
  (await chosen(stack, identity, "safetyCopyIdentity")) ?? defaultIdentityFile();

/** Makes a portable copy. Loads cryptography on demand. */
export async function makePortable(stack: string, options: PortableOptions): Promise<number> {
  const { makePortableCopy } = await import("../../components/backups/portable.ts");
  const { aboutNewIdentity } = await import("../../lib/identity.ts");
  const outputs = await readStack(stack);
  const server = addressOf(outputs.urls.superuser ?? "");
  const identityFile = await identityFileOf(stack, options);
  const copy = await makePortableCopy({
    stack,
    container: outputs.container,
    server,
    folder: options.folder,
    recipient: await chosen(stack, options.recipient, "safetyCopyRecipient"),
    identityFile,
    onNewIdentity: () => console.error(aboutNewIdentity(identityFile)),
    say: (line) => console.error(line),
  });
  const read = copy.verified === "decrypted" ? "decrypted and read by pg_restore" : "read again, not decrypted";
  if (options.json) console.log(JSON.stringify(copy, null, 2));
  else {
    console.log(
      `${copy.databases.join(", ")}: ${humanBytes(copy.bytes)}, ${read}\n` +
        `To restore, with age and PostgreSQL's tools: ${relative(CALLER_FOLDER, copy.path)}/restore.sh IDENTITY_FILE [DATABASE NEW_NAME]`,
    );
    if (copy.verified === "as written")
      console.log(`The owner of the private key of ${copy.recipient} should check it: ./db backup --check PATH`);
  }
  return 0;
}

/** Checks a portable copy. */
export async function checkPortable(stack: string, options: PortableOptions & { check: string }): Promise<number> {
  const { verifyPortableCopy } = await import("../../components/backups/portable.ts");
  const { readIdentity } = await import("../../lib/identity.ts");
  const folder = options.check;
  const file = await identityFileOf(stack, options);
  const identity = await readIdentity(file);
  if (identity === undefined)
    throw new Error(`The identity file ${file} does not exist. Name the file with --identity FILE.`);
  const { container } = await readStack(stack);
  const databases = await verifyPortableCopy(folder, identity.secret, container);
  if (options.json) console.log(JSON.stringify({ folder, databases }, null, 2));
  else console.log(`${folder} is complete: the roles, and ${databases.join(", ")}, decrypted and read by pg_restore`);
  return 0;
}
