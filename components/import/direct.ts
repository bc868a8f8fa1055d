/** The short way to a server in a container on this machine. */
import { docker, isRemoteEngine } from "../../lib/docker.ts";
import { type Address, withConnection } from "../../lib/postgres.ts";
import type { Target } from "./types.ts";

const INSIDE_PORT = 5432;

/**
 * The way to a container's server for a container that is started beside it, to read its schema: in the same network
 * namespace, as a second process in it would connect. To lay a network for a container takes Docker longer than to start it.
 * @param container the server's container, which has to run when the other is started.
 */
export const besideServer = (container: string): Target["fromContainer"] => ({
  host: "localhost",
  port: INSIDE_PORT,
  network: `container:${container}`,
});

/** A container's address that is not reachable from here (Docker Desktop) does not answer at all. */
const ATTEMPT_MS = 1000;

/** What tells one cluster from any other: made by initdb, kept for good. */
const identify = (address: Address): Promise<string> =>
  withConnection(
    address,
    async (client) => (await client.query("SELECT system_identifier::text AS id FROM pg_control_system()")).rows[0].id,
    { attemptMs: ATTEMPT_MS },
  );

/**
 * The container's own address, where this machine reaches it and the same cluster answers there; else the address that was
 * given. A published port passes every byte through Docker's proxy process, which costs about as much as the copying itself.
 * @param container the server's container.
 * @param published how the server is reached by its published port.
 */
export async function directAddress(container: string, published: Address, host: string | undefined): Promise<Address> {
  // Containers of this machine may have the same addresses as those of the other, and would be sent the password.
  if (isRemoteEngine(host)) return published;
  const format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
  const addresses = await docker(["inspect", "-f", format, container], { host }).catch(() => "");
  for (const address of addresses.split(" ").map((text) => text.trim())) {
    if (address === "") continue;
    const direct = { ...published, host: address, port: INSIDE_PORT };
    try {
      if ((await identify(direct)) === (await identify(published))) return direct;
    } catch {
      // Not reachable from here, which is as common as it is harmless.
    }
  }
  return published;
}
