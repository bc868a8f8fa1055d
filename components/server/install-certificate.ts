/** Replaces the certificate of a running server without a restart. */
import { DockerError, docker } from "../../lib/docker.ts";
import { pause } from "../../lib/scope.ts";
import { serverProgram } from "../../lib/server-programs.ts";
import { AUTHORITY_INSIDE, readServedCertificate, TLS_FOLDER } from "../../lib/server-tls.ts";
import type { CertificateInputs, CertificateOutputs } from "./certificates.ts";

/** The line between the authority and the certificate on standard input. */
const DIVIDER = "sectorwars: end of the authority";

/**
 * Reads the authority and the certificate from standard input, because ps shows arguments and docker inspect variables. PostgreSQL may
 * read the certificate at any time, so each file is replaced as a whole, by a rename.
 */
const SCRIPT = `
  set -eu
  umask 077
  mkdir -p ${TLS_FOLDER}
  cd ${TLS_FOLDER}
  chmod 0755 .
  while IFS= read -r line && [ "$line" != "${DIVIDER}" ]; do printf '%s\\n' "$line"; done >.ca.crt.new
  cat >.server.pem.new
  chmod 0644 .ca.crt.new
  chown postgres:postgres .server.pem.new
  mv .ca.crt.new ${AUTHORITY_INSIDE}
  mv .server.pem.new server.pem`;

const SEEN_WITHIN_MS = 10_000;

/** Makes the server read its configuration again. Returns false if it does not accept connections, as while it starts. */
async function reload({ container, dockerHost: host }: CertificateInputs): Promise<boolean> {
  try {
    await docker(serverProgram(container, "psql", ["-d", "postgres", "-c", "SELECT pg_catalog.pg_reload_conf()"]), {
      host,
    });
    return true;
  } catch (error) {
    // It reads the certificate when it starts.
    if (error instanceof DockerError && /starting up|connection to server on socket/i.test(error.stderr)) return false;
    throw error;
  }
}

/** Whether a container has ended or keeps failing. Then the wait for the server reports why. */
const isDown = (error: unknown): boolean =>
  error instanceof DockerError && /is not running|is restarting|no such container/i.test(error.stderr);

/**
 * Writes the certificate into the container and makes the server present it. Connections stay open.
 * @returns false if the container does not run.
 * @throws {Error} if the server still presents another one after 10 s.
 */
export async function installCertificate(
  inputs: CertificateInputs,
  { pair, serial }: Pick<CertificateOutputs, "pair" | "serial">,
): Promise<boolean> {
  const { container, dockerHost: host } = inputs;
  const input = `${inputs.authority.trimEnd()}\n${DIVIDER}\n${pair}`;
  try {
    await docker(["exec", "-i", container, "sh", "-c", SCRIPT], { host, input });
  } catch (error) {
    if (isDown(error)) return false;
    throw error;
  }
  if (!(await reload(inputs))) return true;
  const deadline = Date.now() + SEEN_WITHIN_MS;
  for (;;) {
    const served = await readServedCertificate(inputs.host, inputs.port).catch(() => undefined);
    // If this machine does not reach the server, the wait for the server reports why.
    if (served === undefined || served.serial === serial) return true;
    if (Date.now() > deadline) {
      throw new Error(
        `The server in ${container} presents the certificate ${served.serial} instead of ${serial}. Its log says why: ` +
          `docker logs --tail 20 ${container}`,
      );
    }
    await pause(200);
  }
}
