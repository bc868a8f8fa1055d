/** The authority of the server's certificate, for the application: its file, its variables, and its place in the services. */
import { mkdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isRemoteEngine } from "../../lib/docker.ts";
import { libpqTls } from "../../lib/server-tls.ts";
import { writeWhole } from "./files.ts";
import type { HandOverInputs } from "./handover.ts";

/** The file in each service. */
export const AUTHORITY_IN_SERVICE = "/etc/sectorwars/ca.crt";
const FOLDER = ".sectorwars";
/** A certificate is public, and services run as other users. */
const READABLE = 0o644;

type Place = Pick<HandOverInputs, "folder" | "authority" | "target" | "dockerHost">;

const authorityFile = ({ folder }: Pick<HandOverInputs, "folder">): string => join(folder, FOLDER, "ca.crt");

/** How the services verify the server. */
export interface ServiceTls {
  /** The variables of libpq, psycopg and asyncpg. A URL's parameters would differ between drivers. */
  variables: Record<string, string>;
  /** The entry of `configs` in the Compose file: the file, or its content if the engine is on another machine. */
  config: { file: string } | { content: string };
}

/** Whether the application connects to a server with TLS. The remote database has a public authority. */
const isVerified = (inputs: Place): inputs is Place & { authority: string } =>
  inputs.authority !== undefined && inputs.target === "local";

/** Returns how services verify the server; undefined for a server without TLS. */
export function serviceTls(inputs: Place): ServiceTls | undefined {
  if (!isVerified(inputs)) return undefined;
  const { authority, dockerHost } = inputs;
  return {
    variables: libpqTls(AUTHORITY_IN_SERVICE),
    config: isRemoteEngine(dockerHost) ? { content: authority } : { file: authorityFile(inputs) },
  };
}

/** Returns the variables for programs on this machine. */
export const machineTls = (inputs: Place): Record<string, string> =>
  isVerified(inputs) ? libpqTls(authorityFile(inputs)) : {};

/** Writes the file into a folder of the application that git ignores. Does nothing for a server without TLS. */
export async function writeAuthorityFile(inputs: Place): Promise<void> {
  if (!isVerified(inputs)) return;
  const file = authorityFile(inputs);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(join(dirname(file), ".gitignore"), "*\n");
  await writeWhole(file, inputs.authority, { mode: READABLE });
}

/** Removes what {@link writeAuthorityFile} wrote, and the folder if it is empty then. */
export async function removeAuthorityFile(inputs: Place): Promise<void> {
  if (!isVerified(inputs)) return;
  const folder = dirname(authorityFile(inputs));
  for (const file of [authorityFile(inputs), join(folder, ".gitignore")]) await rm(file, { force: true });
  await rmdir(folder).catch(() => {});
}

/** Whether the file is as the hand-over wrote it. */
export async function hasAuthorityFile(inputs: Place): Promise<boolean> {
  if (!isVerified(inputs)) return true;
  return (await readFile(authorityFile(inputs), "utf8").catch(() => undefined)) === inputs.authority;
}
