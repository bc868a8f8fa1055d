/** Options for safety copies, and functions that find and open them. */
import { basename, resolve } from "node:path";
import { Option } from "@commander-js/extra-typings";
import { type FoundCopy, listCopies, SAFETY_FOLDER } from "../../components/import/safety-copy/files.ts";
import { fromCaller } from "./paths.ts";

/** The option for the folder with the safety copies. The default is in the project's folder. */
export const folderOption = () =>
  new Option("--folder <path>", "the folder with the safety copies")
    .argParser(fromCaller)
    .default(resolve(SAFETY_FOLDER), SAFETY_FOLDER);

/** The option for the private key. */
export const identityOption = () =>
  new Option(
    "--identity <file>",
    "age's private key (default: sectorwars/age-identity.txt in XDG_CONFIG_HOME or ~/.config)",
  ).argParser(fromCaller);

/**
 * Finds a copy by its name.
 * @throws {Error} with the existing copies, if there is no such copy.
 */
export async function findCopy(folder: string, name: string | undefined): Promise<FoundCopy> {
  const copies = await listCopies(folder);
  const found = copies.find((copy) => copy.name === basename(name ?? ""));
  if (found) return found;
  const known =
    copies.length > 0
      ? `There are: ${copies.map((copy) => copy.name).join(", ")}`
      : `${folder} contains no safety copy`;
  throw new Error(
    name === undefined ? `Name a safety copy. ${known}` : `The safety copy ${name} does not exist. ${known}`,
  );
}

/** Returns the private key. Loads cryptography on demand. */
export async function openIdentity(file: string): Promise<string> {
  const { readIdentity } = await import("../../lib/identity.ts");
  const identity = await readIdentity(file);
  if (identity) return identity.secret;
  throw new Error(
    `The identity file ${file} does not exist. Name the file with --identity FILE; without it, no copy can be decrypted.`,
  );
}
