/** `npm run safety-copy`: the encrypted copies of sources that imports have made. */
import { resolve } from "node:path";
import { defaultIdentityFile } from "../components/import/identity-file.ts";
import { humanBytes } from "../components/import/progress.ts";
import { type FoundCopy, listCopies, SAFETY_FOLDER } from "../components/import/safety-copy-files.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { type Invocation, main } from "./cli.ts";
import { findCopy, openIdentity } from "./copies.ts";
import { ownerOf } from "./owner.ts";

/** Prints for machines or for people. */
const print = (json: boolean, value: unknown, text: string) =>
  console.log(json ? JSON.stringify(value, null, 2) : text);

const lineOf = ({ name, bytes, files, sha256 }: FoundCopy) =>
  `${name}  ${humanBytes(bytes)}, ${files} files, SHA-256 ${sha256}`;

async function verify({ values, rest }: Invocation, folder: string, identity: string): Promise<number> {
  const { checkCopy } = await import("../components/import/safety-copy-check.ts");
  const copy = await findCopy(folder, rest[1]);
  const found = await checkCopy(copy.path, await openIdentity(identity), (file) => {
    if (!values.json && process.stdout.isTTY) process.stdout.write(`\r${file}`);
  });
  const { manifest, rows, bytes } = found;
  const selected = manifest.tables.filter((table) => table.selected !== undefined).length;
  print(
    values.json === true,
    {
      name: copy.name,
      sha256: copy.sha256,
      source: manifest.source,
      takenAt: manifest.takenAt,
      tables: manifest.tables.length,
      rows,
      bytes,
      selected,
    },
    `${process.stdout.isTTY ? "\r" : ""}${copy.name} is whole: ${manifest.tables.length} tables, ${rows.toLocaleString("en")} rows, ` +
      `${humanBytes(bytes)} decrypted and found to be what ${manifest.source} sent at ${manifest.takenAt}` +
      (selected > 0 ? `; ${selected} tables are not whole there by choice (masked, subset or excluded)` : "") +
      `\nSHA-256 ${copy.sha256}`,
  );
  return 0;
}

async function restore({ stack, values, rest }: Invocation, folder: string, identity: string): Promise<number> {
  const database = values.into;
  if (typeof database !== "string" || !/^[a-z][a-z0-9_]{0,40}$/.test(database)) {
    throw new Error("Say the new database's name with --into: at most 41 small letters, digits and _, a letter first");
  }
  const { restoreCopy } = await import("../components/import/safety-copy-restore.ts");
  const copy = await findCopy(folder, rest[1]);
  const secret = await openIdentity(identity);
  const { urls } = await readStack(stack);
  const summary = await restoreCopy({
    copy: copy.path,
    secret,
    server: addressOf(urls.superuser ?? ""),
    database,
    ...ownerOf(urls),
    // Which tables readonly must not read is the stack's setting for its own database; here it reads none.
    preparation: (name) => preparationScript(name, ["*"]),
    say: (line) => {
      if (!values.json) console.log(line);
    },
  });
  if (values.json) console.log(JSON.stringify({ database, ...summary }, null, 2));
  return 0;
}

await main({
  help: `
usage: npm run safety-copy -- list [--json]
       npm run safety-copy -- verify NAME [--json]
       npm run safety-copy -- restore NAME --into DATABASE [--stack NAME]

The encrypted copies of sources that imports have made. verify decrypts all of one and compares every table with what the
source sent. restore loads one into a new database of the stack's server, and compares again. Without this program,
restore.sh in the copy's folder does the same.

      --folder PATH    where the copies lie; ${SAFETY_FOLDER}, if left out
      --identity FILE  age's private key; sectorwars/age-identity.txt in XDG_CONFIG_HOME or ~/.config, if left out
      --into DATABASE  the new database's name
      --json           for machines`,
  options: {
    json: { type: "boolean" },
    folder: { type: "string", default: SAFETY_FOLDER },
    identity: { type: "string" },
    into: { type: "string" },
  },
  takesWords: true,
  async run(invocation) {
    const { values, rest } = invocation;
    const folder = resolve(String(values.folder));
    const identity = typeof values.identity === "string" ? values.identity : defaultIdentityFile();
    switch (rest[0]) {
      case "list": {
        const copies = await listCopies(folder);
        print(values.json === true, copies, copies.map(lineOf).join("\n") || `There is no safety copy in ${folder}.`);
        return 0;
      }
      case "verify":
        return verify(invocation, folder, identity);
      case "restore":
        return restore(invocation, folder, identity);
      default:
        throw new Error(`${rest[0] ? `There is no "${rest[0]}"` : "Say what to do"}: list, verify or restore (--help)`);
    }
  },
});
