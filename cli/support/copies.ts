/** Safety copies as subcommands name them. */
import { basename, resolve } from "node:path";
import { Option } from "@commander-js/extra-typings";
import { type FoundCopy, listCopies, SAFETY_FOLDER } from "../../components/import/safety-copy-files.ts";
import { fromCaller } from "./paths.ts";

/** The option for the folder with the safety copies; the default is in the project's folder. */
export const folderOption = () =>
  new Option("--folder <path>", "where safety copies are")
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
 * @throws {Error} that says which there are.
 */
export async function findCopy(folder: string, name: string | undefined): Promise<FoundCopy> {
  const copies = await listCopies(folder);
  const found = copies.find((copy) => copy.name === basename(name ?? ""));
  if (found) return found;
  const known =
    copies.length > 0 ? `There are: ${copies.map((copy) => copy.name).join(", ")}` : `There is none in ${folder}`;
  throw new Error(name === undefined ? `Which copy? ${known}` : `There is no safety copy ${name}. ${known}`);
}

/** The private key. Cryptography is loaded only when it is needed. */
export async function openIdentity(file: string): Promise<string> {
  const { readIdentity } = await import("../../lib/identity.ts");
  const identity = await readIdentity(file);
  if (identity) return identity.secret;
  throw new Error(
    `There is no identity in ${file}. Name the file with --identity FILE; without it no copy can be opened.`,
  );
}
