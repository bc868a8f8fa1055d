/** How our own connections verify a stack's server. */
import { type ConnectionOptions, checkServerIdentity } from "node:tls";

/**
 * Returns the options of a connection that verifies the certificate and the host's name, like libpq's verify-full.
 * @param authority the certificate of the server's authority, PEM.
 * @param host the name or address to verify. The connection may go to another one, for example the container's own address.
 */
export const verifiedTls = (authority: string, host: string): ConnectionOptions => ({
  ca: authority,
  rejectUnauthorized: true,
  minVersion: "TLSv1.2",
  // With an IP address, node-postgres passes no host, and Node would verify the name "localhost".
  checkServerIdentity: (_host, certificate) => checkServerIdentity(host, certificate),
});
