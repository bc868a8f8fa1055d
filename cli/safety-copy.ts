/** `./db safety-copy`: lists, verifies and restores safety copies. */
import { type Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { type FoundCopy, listCopies } from "../components/import/safety-copy/files.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import { defaultIdentityFile } from "../lib/identity-file.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { findCopy, folderOption, identityOption, openIdentity } from "./support/copies.ts";
import { ownerOf } from "./support/owner.ts";
import { addExamples, type Invocation, type Output, onStack, withoutStack } from "./support/subcommand.ts";

const lineOf = ({ name, bytes, files, sha256 }: FoundCopy) =>
  `${name}  ${humanBytes(bytes)}, ${files} files, SHA-256 ${sha256}`;

/** The folder of the copies, and the identity that decrypts them. */
interface Place {
  folder: string;
  identity?: string;
}

async function list({ print }: Output, { folder }: Place): Promise<number> {
  const copies = await listCopies(folder);
  print(copies.map(lineOf).join("\n") || `There is no safety copy in ${folder}.`, copies);
  return 0;
}

async function verify({ json, print }: Output, name: string, { folder, identity }: Place): Promise<number> {
  const { checkCopy } = await import("../components/import/safety-copy/check.ts");
  const copy = await findCopy(folder, name);
  const found = await checkCopy(copy.path, await openIdentity(identity ?? defaultIdentityFile()), (file) => {
    if (!json && process.stdout.isTTY) process.stdout.write(`\r${file}`);
  });
  const { manifest, rows, bytes } = found;
  const { source, takenAt } = manifest;
  const tables = manifest.tables.length;
  const selected = manifest.tables.filter((table) => table.selected !== undefined).length;
  print(
    `${process.stdout.isTTY ? "\r" : ""}${copy.name} is complete: ${tables} tables, ${rows.toLocaleString("en")} rows, ` +
      `${humanBytes(bytes)} decrypted and equal to what ${source} sent at ${takenAt}` +
      (selected > 0 ? `; the settings mask, limit or exclude ${selected} of the tables` : "") +
      `\nSHA-256 ${copy.sha256}`,
    { name: copy.name, sha256: copy.sha256, source, takenAt, tables, rows, bytes, selected },
  );
  return 0;
}

async function restore(
  { stack, json }: Invocation,
  name: string,
  { folder, identity, into }: Place & { into: string },
): Promise<number> {
  const { restoreCopy } = await import("../components/import/safety-copy/restore.ts");
  const copy = await findCopy(folder, name);
  const secret = await openIdentity(identity ?? defaultIdentityFile());
  const { urls } = await readStack(stack);
  const summary = await restoreCopy({
    copy: copy.path,
    secret,
    server: addressOf(urls.superuser ?? ""),
    database: into,
    ...ownerOf(urls),
    // The deny list is a setting of the stack's own database. In this one, readonly may read no table.
    preparation: (database) => preparationScript(database, ["*"]),
    say: (line) => {
      if (!json) console.log(line);
    },
  });
  if (json) console.log(JSON.stringify({ database: into, ...summary }, null, 2));
  return 0;
}

/** Checks the name of a new database. Parses the value of an option. */
function newDatabase(name: string): string {
  if (/^[a-z][a-z0-9_]{0,40}$/.test(name)) return name;
  throw new InvalidArgumentError("Use at most 41 lowercase letters, digits or underscores, starting with a letter.");
}

/** Configures the command `./db safety-copy`. */
export default function safetyCopy(command: Command): void {
  command.description(
    "Lists, verifies and restores safety copies: the encrypted dumps of sources that imports made. Without this program, restore.sh in a " +
      "copy's folder restores it.",
  );
  command.command("list").description("Lists the safety copies.").addOption(folderOption()).action(withoutStack(list));
  command
    .command("verify")
    .description("Decrypts a copy completely, and compares every table with the data that the source sent.")
    .argument("<name>", "the copy")
    .addOption(folderOption())
    .addOption(identityOption())
    .action(withoutStack(verify));
  command
    .command("restore")
    .description("Restores a copy into a new database of the stack's server, and compares every table again.")
    .argument("<name>", "the copy")
    .addOption(new Option("--into <database>", "the new database's name").argParser(newDatabase).makeOptionMandatory())
    .addOption(folderOption())
    .addOption(identityOption())
    .action(onStack(restore));
  addExamples(command, {
    "safety-copy list": "list the copies",
    "safety-copy verify dev-20261123T054512Z": "decrypt and compare a copy",
    "safety-copy restore dev-20261123T054512Z --into rescued": "restore it into the new database rescued",
  });
}
