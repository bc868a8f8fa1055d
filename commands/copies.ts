/** Safety copies as commands name them. */
import { basename } from "node:path";
import { type FoundCopy, listCopies } from "../components/import/safety-copy-files.ts";

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
  const { readIdentity } = await import("../components/import/identity.ts");
  const identity = await readIdentity(file);
  if (identity) return identity.secret;
  throw new Error(
    `There is no identity in ${file}. Name the file with --identity FILE; without it no copy can be opened.`,
  );
}
