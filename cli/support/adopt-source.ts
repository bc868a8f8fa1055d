/** Runs a temporary server on a copy of the application's data volume, as the source of an import. */
import { randomBytes } from "node:crypto";
import { docker } from "../../lib/docker.ts";
import { type Address, connect, literal } from "../../lib/postgres.ts";
import { currentScope, pause } from "../../lib/scope.ts";

/** The server's name inside the stack's network. */
export const ALIAS = "adopted-source";
/** The superuser that is created in the copy, because the passwords in the volume are unknown. */
export const SUPERUSER = "sectorwars_adopt";
const STARTS_WITHIN_MS = 120_000;
const COPY = "/adopted";
/** States of a container in which nothing writes to its volumes. */
const AT_REST = new Set(["created", "exited", "dead"]);

/** Returns the image of the last container on a volume, whose collation sorted its indexes. */
export async function imageOf(volume: string): Promise<string | undefined> {
  const found = await docker([
    "ps",
    "-a",
    "--filter",
    `volume=${volume}`,
    "--format",
    "{{.Image}}\t{{.State}}\t{{.Names}}",
  ]);
  const lines = found
    .split("\n")
    .filter(Boolean)
    .map((line) => line.split("\t"));
  const running = lines.find(([, state = ""]) => !AT_REST.has(state));
  if (running)
    throw new Error(`The container ${running[2]} uses the volume ${volume}. Stop it first: docker stop ${running[2]}`);
  return lines[0]?.[0];
}

/**
 * Starts a server on a copy of the volume, inside the stack's network. The volume itself is only read. The copy is in the container and
 * is removed with it.
 */
export async function startServer(
  name: string,
  volume: string,
  image: string,
  network: string,
): Promise<{ password: string }> {
  const password = randomBytes(24).toString("hex");
  // The cluster may be at the volume's root, or in a folder.
  const script = `
    set -eu
    read -r password
    found=$(find /volume -maxdepth 3 -name PG_VERSION ! -path '*/base/*' | head -n 1)
    [ -n "$found" ] || { echo "FATAL: there is no PostgreSQL data in the volume"; exit 1; }
    cp -a "$(dirname "$found")" ${COPY}
    cd ${COPY}
    rm -f postmaster.pid postgresql.auto.conf recovery.signal standby.signal
    printf 'host all ${SUPERUSER} all scram-sha-256\\n' >pg_hba.conf
    printf "listen_addresses = '*'\\nfsync = off\\npassword_encryption = 'scram-sha-256'\\n" >postgresql.conf
    chown -R postgres ${COPY}
    chmod 700 ${COPY}
    as() { if command -v gosu >/dev/null; then exec gosu postgres "$@"; else exec su-exec postgres "$@"; fi; }
    printf "CREATE ROLE ${SUPERUSER} SUPERUSER LOGIN PASSWORD '%s';\\n" "$password" >/tmp/role.sql
    chmod 644 /tmp/role.sql
    (as postgres --single -D ${COPY} template1 </tmp/role.sql) || { echo "FATAL: the data cannot be started"; exit 1; }
    rm /tmp/role.sql
    # When the client process ends, its end of the input closes, which kills the server: the copy may end in any state.
    exec 3<&0
    as postgres -D ${COPY} 3<&- &
    server=$!
    { cat >/dev/null; kill -KILL $server; } <&3 &
    wait $server`;
  await docker([
    "create",
    "--interactive",
    "--name",
    name,
    "--label",
    "sectorwars.adopt",
    "--network",
    network,
    "--network-alias",
    ALIAS,
    "-p",
    "127.0.0.1::5432",
    "-v",
    `${volume}:/volume:ro`,
    "--user",
    "0:0",
    "--entrypoint",
    "sh",
    image,
    "-c",
    script,
  ]);
  // Attached only for its input: no argument and no variable contains the password.
  docker(["start", "-a", "-i", name], { input: `${password}\n`, holdInput: true }).catch(() => {});
  return { password };
}

/** Returns the port that Docker assigned, after the container has started. */
export async function publishedPort(name: string): Promise<number> {
  const deadline = Date.now() + STARTS_WITHIN_MS;
  for (;;) {
    const said = await docker(["port", name, "5432/tcp"]).catch(() => "");
    const port = Number(said.trim().split("\n")[0]?.split(":").pop());
    if (port > 0) return port;
    if (Date.now() > deadline) throw new Error(`The container ${name} did not start`);
    await pause(100);
  }
}

/** Returns the name of the only database that is not PostgreSQL's own. @throws {Error} if there is no such database, or several. */
export async function onlyDatabase(address: Address, container: string): Promise<string> {
  const client = await connect(address, { patienceMs: STARTS_WITHIN_MS, attemptMs: 3000 }).catch(
    async (error: Error) => {
      currentScope()?.check();
      const log = await docker(["logs", "--tail", "10", container]).catch(() => "");
      throw new Error(`The server on the copy of the volume did not start: ${error.message}\n${log}`);
    },
  );
  try {
    const { rows } = await client.query<{ name: string }>(
      `SELECT datname AS name FROM pg_database WHERE NOT datistemplate AND datname <> ${literal("postgres")} ORDER BY 1`,
    );
    if (rows.length === 1 && rows[0] !== undefined) return rows[0].name;
    const names = rows.map(({ name }) => name).join(", ");
    throw new Error(
      rows.length === 0
        ? "The volume contains no database except PostgreSQL's own."
        : `The volume contains several databases: ${names}. Choose one: --database NAME`,
    );
  } finally {
    await client.end();
  }
}
