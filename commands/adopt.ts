/** `npm run adopt`: takes over the data of a volume that the application's own database made, through the import. */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { directAddress } from "../components/import/direct.ts";
import { reportFolder } from "../components/import/report-folder.ts";
import { runImport } from "../components/import/worker.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { ROLE_NAMES } from "../components/roles/names.ts";
import { namesFor } from "../components/server/naming.ts";
import { type DockerError, docker } from "../lib/docker.ts";
import { connect, literal, withConnection } from "../lib/postgres.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { main } from "./cli.ts";

const ALIAS = "adopted-source";
const SUPERUSER = "sectorwars_adopt";
const STARTS_WITHIN_MS = 120_000;
const COPY = "/adopted";

/** The tables of a deny list as the stack's own database has them. */
async function deniedIn(url: string): Promise<string[]> {
  return withConnection(addressOf(url), async (client) => {
    const { rows } = await client.query<{ pattern: string }>("SELECT pattern FROM sectorwars_stack.readonly_denied");
    // Kept as LIKE patterns, wanted as names with *.
    return rows.map(({ pattern }) => pattern.replaceAll("%", "*").replaceAll(/\\([\\%_])/g, "$1"));
  });
}

/** The image that last ran on a volume; text was sorted by its rules. */
async function imageOf(volume: string): Promise<string | undefined> {
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
  const running = lines.find(([, state]) => state === "running");
  if (running)
    throw new Error(`The container ${running[2]} uses the volume ${volume}. Stop it first: docker stop ${running[2]}`);
  return lines[0]?.[0];
}

/**
 * A server on a copy of the volume, inside the stack's network: the volume itself is only read. The copy lives in the container and
 * goes with it.
 */
async function startServer(
  name: string,
  volume: string,
  image: string,
  network: string,
): Promise<{ password: string }> {
  const password = randomBytes(24).toString("hex");
  // Where the cluster lies in the volume: at its root, or in a folder of it.
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
    as postgres -D ${COPY}`;
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
  // Attached for its input alone: the password is in no argument and no variable.
  docker(["start", "-a", "-i", name], { input: `${password}\n` }).catch(() => {});
  return { password };
}

async function adopt(stack: string, volume: string, wanted: { image?: string; database?: string }): Promise<number> {
  const outputs = await readStack(stack);
  const target = addressOf(outputs.urls.superuser ?? "");
  await docker(["volume", "inspect", volume]).catch((error: DockerError) => {
    throw new Error(
      /no such volume/i.test(error.stderr)
        ? `There is no volume ${volume}. docker volume ls shows those that are.`
        : error.message,
    );
  });
  if (volume === namesFor(stack).volume) throw new Error(`${volume} is this stack's own volume.`);
  const stackImage = (await docker(["inspect", "-f", "{{.Image}}", outputs.container])).trim();
  const image = wanted.image ?? (await imageOf(volume)) ?? stackImage;
  const denyList = await deniedIn(outputs.urls.superuser ?? "");
  const name = `sectorwars-${stack}-adopt`;
  await docker(["rm", "-f", "-v", name]).catch(() => {});
  console.log(`adopt: a server of ${image} on a copy of ${volume}`);
  try {
    const { password } = await startServer(name, volume, image, outputs.network);
    const port = await publishedPort(name);
    const address = { host: "127.0.0.1", port, user: SUPERUSER, password, database: "postgres" };
    const database = wanted.database ?? (await onlyDatabase(address, name));
    await runImport(
      {
        source: {
          label: `the volume ${volume}, database ${database}`,
          address: { ...address, database },
          fromContainer: { host: ALIAS, port: 5432, network: outputs.network },
          rootCertificates: undefined,
          remarks: ["the source is a copy of a local volume"],
        },
        target: {
          address: await directAddress(outputs.container, target, undefined),
          owner: ROLE_NAMES.owner,
          preparation: (into) => preparationScript(into, denyList),
          fromContainer: { host: namesFor(stack).alias, port: 5432, network: outputs.network },
        },
        stack,
        image: stackImage,
        newerImage: await newerImage(stackImage),
        dockerHost: undefined,
        jobs: 2,
        reportFolder: reportFolder(stack),
      },
      { say: (line) => console.log(line) },
    );
  } finally {
    await docker(["rm", "-f", "-v", name]).catch(() => {});
  }
  console.log(
    `adopt: done. ${volume} is as it was; remove it when you no longer want it (docker volume rm ${volume}). ` +
      `Migrations and hand-over follow: pulumi refresh, then pulumi up`,
  );
  return 0;
}

const newerImage = (fallback: string): Promise<string> =>
  readFile(".local/images.json", "utf8").then(
    (text) => JSON.parse(text).newerPostgres ?? fallback,
    () => fallback,
  );

/** The port that Docker gave, once the container runs. */
async function publishedPort(name: string): Promise<number> {
  const deadline = Date.now() + STARTS_WITHIN_MS;
  for (;;) {
    const said = await docker(["port", name, "5432/tcp"]).catch(() => "");
    const port = Number(said.trim().split("\n")[0]?.split(":").pop());
    if (port > 0) return port;
    if (Date.now() > deadline) throw new Error(`The container ${name} did not start`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The database to take: the only one that is not PostgreSQL's own. */
async function onlyDatabase(address: Parameters<typeof connect>[0], container: string): Promise<string> {
  const client = await connect(address, { patienceMs: STARTS_WITHIN_MS, attemptMs: 3000 }).catch(
    async (error: Error) => {
      const log = await docker(["logs", "--tail", "10", container]).catch(() => "");
      throw new Error(`The server on the volume's copy did not come up: ${error.message}\n${log}`);
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
        ? "The volume holds no database beside PostgreSQL's own."
        : `The volume holds ${names}. Choose one: --database NAME`,
    );
  } finally {
    await client.end();
  }
}

await main({
  help: `
usage: npm run adopt -- VOLUME [--image IMAGE] [--database NAME] [--stack NAME]

Takes the data of a volume that the application's own database made (docker compose: PROJECT_postgres_data) into the stack's
database, with the import's proof. The stack must be up with bootstrap empty, and its database still be empty: adopt first,
then set alembic. The volume is only read: a server runs on a copy of it, and is removed afterwards.

      --image IMAGE    image to run the copy with; the one whose container used the volume, if left out
      --database NAME  which of the volume's databases, if it holds several`,
  options: { image: { type: "string" }, database: { type: "string" } },
  takesWords: true,
  async run({ stack, values, rest: [volume] }) {
    if (volume === undefined) throw new Error("Name the volume: npm run adopt -- VOLUME. docker volume ls shows them.");
    return adopt(stack, volume, values as { image?: string; database?: string });
  },
});
