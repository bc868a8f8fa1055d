/** Connects to a server in a container on this machine without Docker's proxy. */
import { docker, isRemoteEngine } from "../../../lib/docker.ts";
import { type Address, withConnection } from "../../../lib/postgres.ts";
import type { Target } from "../types.ts";

const INSIDE_PORT = 5432;

/**
 * Returns how a second container reaches the server: in the server's own network namespace, because setting up a network takes Docker
 * longer than starting the container.
 * @param container the server's container, which must be running when the second one starts.
 */
export const besideServer = (container: string): Target["fromContainer"] => ({
  host: "localhost",
  port: INSIDE_PORT,
  network: `container:${container}`,
});

/** Milliseconds for one attempt. A container's address that is not reachable from here (Docker Desktop) never answers. */
const ATTEMPT_MS = 1000;

/** Reads the identifier that initdb gives each cluster. */
const identify = (address: Address): Promise<string> =>
  withConnection(
    address,
    async (client) => (await client.query("SELECT system_identifier::text AS id FROM pg_control_system()")).rows[0].id,
    { attemptMs: ATTEMPT_MS },
  );

/**
 * Returns the container's own address if this machine reaches it and the same cluster answers there; otherwise the given address. A
 * published port passes every byte through Docker's proxy process, which costs about as much as the copying itself.
 * @param container the server's container.
 * @param published the server's address at its published port.
 */
export async function directAddress(container: string, published: Address, host: string | undefined): Promise<Address> {
  // A container of this machine may have the same address as the remote one, and would receive the password.
  if (isRemoteEngine(host)) return published;
  const format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
  const addresses = await docker(["inspect", "-f", format, container], { host }).catch(() => "");
  for (const address of addresses.split(" ").map((text) => text.trim())) {
    if (address === "") continue;
    const direct = { ...published, host: address, port: INSIDE_PORT };
    try {
      if ((await identify(direct)) === (await identify(published))) return direct;
    } catch {
      // Not reachable from here, as on Docker Desktop.
    }
  }
  return published;
}
