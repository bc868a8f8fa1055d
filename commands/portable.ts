/** `npm run backup -- --portable`: copies that need neither this program nor this machine. */
import { relative } from "node:path";
import { defaultIdentityFile } from "../components/import/identity-file.ts";
import { humanBytes } from "../components/import/progress.ts";
import { addressOf, readConfig, readStack } from "../lib/stack.ts";
import type { Values } from "./cli.ts";

export const PORTABLE_OPTIONS = {
  portable: { type: "boolean" },
  check: { type: "string" },
  folder: { type: "string", default: "backups/portable" },
  recipient: { type: "string" },
  identity: { type: "string" },
} as const;

export const PORTABLE_HELP = `
      --portable        a copy by pg_dump of every database, and the roles, encrypted with age; also without backups
      --check PATH      reads a portable copy again: decrypts it and lets pg_restore read all of it
      --folder PATH     where portable copies lie; ${PORTABLE_OPTIONS.folder.default}, if left out
      --recipient KEY   age's public key; the setting safetyRecipient, or that of the identity, if left out
      --identity FILE   age's private key; the setting safetyIdentity, or sectorwars/age-identity.txt in XDG_CONFIG_HOME or
                        ~/.config, if left out`;

/** An option, or what a setting says; undefined where neither does. */
async function chosen(stack: string, value: unknown, setting: string): Promise<string | undefined> {
  if (typeof value === "string") return value;
  const set = (await readConfig(stack)).get(setting);
  return set === "auto" ? undefined : set;
}
const identityFileOf = async (stack: string, values: Values) =>
  (await chosen(stack, values.identity, "safetyIdentity")) ?? defaultIdentityFile();

/** Makes a portable copy. Cryptography is loaded only when it is needed. */
export async function makePortable(stack: string, values: Values): Promise<number> {
  const { makePortableCopy } = await import("../components/backups/portable.ts");
  const { aboutNewIdentity } = await import("../components/import/identity.ts");
  const outputs = await readStack(stack);
  const server = addressOf(outputs.urls.superuser ?? "");
  const identityFile = await identityFileOf(stack, values);
  const copy = await makePortableCopy({
    stack,
    container: outputs.container,
    server,
    folder: String(values.folder),
    recipient: await chosen(stack, values.recipient, "safetyRecipient"),
    identityFile,
    onNewIdentity: () => console.error(aboutNewIdentity(identityFile)),
    say: (line) => console.error(line),
  });
  const read = copy.verified === "decrypted" ? "decrypted and read by pg_restore" : "read again, not decrypted";
  if (values.json) console.log(JSON.stringify(copy, null, 2));
  else {
    console.log(
      `${copy.databases.join(", ")}: ${humanBytes(copy.bytes)}, ${read}\n` +
        `To restore, with age and PostgreSQL's tools: ${relative(".", copy.path)}/restore.sh IDENTITY_FILE [DATABASE NEW_NAME]`,
    );
    if (copy.verified === "as written")
      console.log(`Whoever has the private key of ${copy.recipient} should check it.`);
  }
  return 0;
}

/** Reads a portable copy again. */
export async function checkPortable(stack: string, values: Values): Promise<number> {
  const { verifyPortableCopy } = await import("../components/backups/portable.ts");
  const { readIdentity } = await import("../components/import/identity.ts");
  const folder = String(values.check);
  const file = await identityFileOf(stack, values);
  const identity = await readIdentity(file);
  if (identity === undefined) throw new Error(`There is no identity in ${file}. Name the file with --identity FILE.`);
  const { container } = await readStack(stack);
  const databases = await verifyPortableCopy(folder, identity.secret, container);
  if (values.json) console.log(JSON.stringify({ folder, databases }, null, 2));
  else console.log(`${folder} is whole: the roles, and ${databases.join(", ")}, decrypted and read by pg_restore`);
  return 0;
}
