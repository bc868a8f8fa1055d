/** The sample source: a PostgreSQL with TLS and game-like data, in a container that exists only during one import. */
import { randomBytes } from "node:crypto";
import { chmod, cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeServerCertificate, type ServerCertificate } from "../../../lib/certificates.ts";
import { containerLog, docker, isRemoteEngine } from "../../../lib/docker.ts";
import { SAMPLE } from "../../../lib/import-summary.ts";
import { connect } from "../../../lib/postgres.ts";
import { helperLabel } from "../schema/schema.ts";
import { besideServer } from "../session/direct.ts";
import type { Source } from "../types.ts";
import { translationsSql } from "./translations.ts";

const DATABASE = "sectorwars_sample";
const USER = "sample_owner";
const STARTS_WITHIN_MS = 180_000;

/** Runs in the container as the server's user, before the server accepts connections. The sample needs no durability, so fsync is off. */
const TLS_SCRIPT = `
cp /sample/server.crt /sample/server.key "$PGDATA/"
chmod 600 "$PGDATA/server.key"
sed -i 's/^host all all all/hostssl all all all/' "$PGDATA/pg_hba.conf"
cat >>"$PGDATA/postgresql.conf" <<-CONF
	ssl = on
	listen_addresses = '*'
	fsync = off
	full_page_writes = off
	max_wal_size = 4GB
CONF
`;

/** Options of the sample source. */
export interface SampleOptions {
  stack: string;
  /** PostgreSQL image, with the official image's entry point. */
  image: string;
  /** Network that it joins: the stack's own. */
  network: string;
  dockerHost: string | undefined;
}

/** Writes the container's input as files, so that neither arguments nor variables show a secret. */
async function writeFiles(folder: string, certificate: ServerCertificate, password: string): Promise<void> {
  const readable = { mode: 0o644 };
  const init = join(folder, "init");
  const own = join(folder, "sample");
  await mkdir(init, { mode: 0o755 });
  await mkdir(own, { mode: 0o755 });
  await cp("sql/sample", init, { recursive: true });
  await writeFile(join(init, "00-tls.sh"), TLS_SCRIPT, readable);
  await writeFile(join(init, "30-translations.sql"), translationsSql(), readable);
  await writeFile(join(own, "password"), password, readable);
  await writeFile(join(own, "server.crt"), certificate.certificate, readable);
  await writeFile(join(own, "server.key"), certificate.key, readable);
  // A strict umask restricts the modes above, but the server's user in the container must be able to read everything.
  for (const part of [init, own]) {
    await chmod(part, 0o755);
    for (const name of await readdir(part)) await chmod(join(part, name), 0o644);
  }
}

/** Address of an engine on a local port, which is nearly always an engine of this machine. */
const LISTENS_HERE = /^(tcp|https?):\/\/(localhost|127\.|\[::1\])/;

/**
 * Starts the sample and waits until it answers over TLS.
 * @throws {Error} with the last lines of the container's log if it does not start.
 */
export async function startSample({ stack, image, network, dockerHost: host }: SampleOptions): Promise<Source> {
  const engine = host ?? process.env.DOCKER_HOST ?? "";
  if (isRemoteEngine(host) && !LISTENS_HERE.test(engine)) {
    throw new Error(
      `The sample source needs a Docker engine on this machine, and the stack's engine is ${engine}. Choose another ` +
        "source: pulumi config set bootstrap empty (or neon)",
    );
  }
  const name = `sectorwars-${stack}-sample-source`;
  const password = randomBytes(24).toString("hex");
  const certificate = await makeServerCertificate(["localhost"]);
  const folder = await mkdtemp(join(tmpdir(), "sectorwars-sample-"));
  try {
    await writeFiles(folder, certificate, password);
    const publish = ["-p", "127.0.0.1::5432", "--network", network];
    const environment = { POSTGRES_USER: USER, POSTGRES_DB: DATABASE, POSTGRES_PASSWORD_FILE: "/sample/password" };
    await docker(
      [
        "create",
        "--name",
        name,
        "--label",
        helperLabel(stack),
        ...publish,
        ...Object.entries({ ...environment, PGDATA: "/tmp/pgdata" }).flatMap(([key, value]) => [
          "-e",
          `${key}=${value}`,
        ]),
        "--entrypoint",
        "docker-entrypoint.sh",
        image,
        "postgres",
      ],
      { host },
    );
    await docker(["cp", `${folder}/init/.`, `${name}:/docker-entrypoint-initdb.d/`], { host });
    await docker(["cp", `${folder}/sample`, `${name}:/sample`], { host });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  await docker(["start", name], { host });
  const published = await docker(["port", name, "5432/tcp"], { host });
  const source: Source = {
    label: `${SAMPLE} (${name}/${DATABASE})`,
    address: {
      host: "127.0.0.1",
      port: Number(published.trim().split(":").pop()),
      database: DATABASE,
      user: USER,
      password,
      tls: { ca: certificate.authority, servername: "localhost", rejectUnauthorized: true },
    },
    fromContainer: besideServer(name),
    rootCertificates: certificate.authority,
    remarks: ["the source is the sample that this project generates"],
  };
  try {
    const client = await connect(source.address, { patienceMs: STARTS_WITHIN_MS, attemptMs: 3000 });
    await client.end();
  } catch (error) {
    throw new Error(
      `The sample source ${name} did not start: ${(error as Error).message}. The last lines of its log:\n${await containerLog(name, 20, { host })}`,
    );
  }
  return source;
}
