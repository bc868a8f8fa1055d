/** Finds problems that would make Docker fail half-way, before anything is created. Runs inside Pulumi's dynamic provider. */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { dynamic } from "@pulumi/pulumi";
import { containerState, DockerError, docker, isRemoteEngine } from "../../lib/docker.ts";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import type { HostCheckInputs } from "./database-server.ts";
import { LOOPBACK, reachedAt } from "./settings.ts";

/** The prefix of images that script/bootstrap builds. */
const MADE_HERE = "sectorwars/";

/** Whether a program listens on a port of this machine. */
async function isTaken(port: number, host = LOOPBACK): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host, port });
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  const taken = await Promise.race([promise, sleep(1000, false)]);
  socket.destroy();
  return taken;
}

/** Returns the first free port of this machine, counting from a number. */
async function freePort(from: number): Promise<number> {
  let port = from;
  while (port < 65_535 && (await isTaken(port))) port++;
  return port;
}

/** Returns the name of the container that publishes a port; empty if none does. */
async function publisherOf(port: number, host: string | undefined): Promise<string> {
  return (await docker(["ps", "--filter", `publish=${port}`, "--format", "{{.Names}}"], { host })).trim();
}

async function checkPort({ port, listen = LOOPBACK, dockerHost, container }: HostCheckInputs): Promise<void> {
  // With a remote engine, the port is in use as soon as it is forwarded, as it should be.
  if (isRemoteEngine(dockerHost) || !(await isTaken(port, reachedAt(listen)))) return;
  const publisher = await publisherOf(port, dockerHost);
  // In an update, the stack's own server uses the port.
  if (publisher === container) return;
  throw new Error(
    `Port ${port} on ${listen} is in use${publisher ? ` by the container ${publisher}` : " by another program"}. ` +
      `Stop it, or choose another port: pulumi config set port ${await freePort(port + 1)}`,
  );
}

/** Returns the engine's API version, for instance 1.44. @throws {Error} if the engine does not answer. */
async function checkEngine(host: string | undefined): Promise<string> {
  try {
    return (await docker(["version", "--format", "{{.Server.APIVersion}}"], { host, timeoutMs: 20_000 })).trim();
  } catch (error) {
    const said = error instanceof DockerError ? error.stderr.trim() || error.message : String(error);
    if (host === undefined) {
      throw new Error(`No Docker engine answers (${said}). Start Docker, or run script/bootstrap, then try again.`);
    }
    throw new Error(
      `The Docker engine at ${host} does not answer (${said}). Try: DOCKER_HOST=${host} docker version. To use the docker command's engine: ` +
        "pulumi config set dockerHost auto",
    );
  }
}

/** Checks that another engine has an image that script/bootstrap built, which is in no registry. */
async function checkImage({ baseImage, dockerHost: host }: HostCheckInputs): Promise<void> {
  if (host === undefined || !baseImage?.startsWith(MADE_HERE)) return;
  await docker(["image", "inspect", baseImage], { host }).catch((error: DockerError) => {
    if (!/no such image/i.test(error.stderr)) throw error;
    throw new Error(
      `The Docker engine at ${host} does not have the image ${baseImage}, which script/bootstrap built on this machine. Run script/up, ` +
        `which copies it, or copy it yourself: docker save ${baseImage} | DOCKER_HOST=${host} docker load`,
    );
  });
}

/** Prints an image's operating system, in the notation of images/database/start.sh, and its PostgreSQL: "debian 12" and 15. */
const IDENTIFY = `
  . /etc/os-release
  case $ID in alpine) echo alpine ;; *) echo "$ID \${VERSION_ID%%.*}" ;; esac
  postgres --version | sed 's/[^0-9]*\\([0-9]*\\).*/\\1/'`;

/** Describes an image on the engine; undefined if it is missing or has no PostgreSQL. */
async function identify(image: string, host: string | undefined): Promise<string | undefined> {
  const args = ["run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", "sh", image, "-c", IDENTIFY];
  const said = await docker(args, { host }).catch(() => "");
  const [system, version] = said.trim().split("\n");
  return system && version ? `PostgreSQL ${version} on ${system}` : undefined;
}

/**
 * Refuses a base image on which the server would not start with its data, while the server still runs. This check does not pull a missing
 * image; then the image's own check stops the server (start.sh).
 */
async function refuseOtherBase({ container, builtOn, dockerHost: host }: HostCheckInputs): Promise<void> {
  const format = "{{.Image}}";
  const image = await docker(["container", "inspect", "--format", format, container], { host }).catch(() => "");
  if (builtOn === undefined || image === "") return;
  const [before, now] = await Promise.all([identify(image.trim(), host), identify(builtOn, host)]);
  if (before === undefined || now === undefined || before === now) return;
  throw new Error(
    `baseImage ${builtOn} is ${now}, but this stack's data was made by ${before}, so the server would not start. Reset the setting: ` +
      "pulumi config rm baseImage. To use another base, create another stack: script/up --stack NAME",
  );
}

async function checkName({ container, dockerHost }: HostCheckInputs): Promise<void> {
  const state = await containerState(container, { host: dockerHost });
  if (state === undefined) return;
  const format = '{{index .Config.Labels "com.docker.compose.project"}}';
  const project = (await docker(["container", "inspect", "--format", format, container], { host: dockerHost })).trim();
  if (project !== "") {
    throw new Error(
      `The container ${container} (${state.status}) belongs to the application's docker compose project ${project}. Remove it first: ` +
        `docker compose -p ${project} down. Its volume stays, and ./db adopt copies its data into the stack.`,
    );
  }
  throw new Error(
    `The container ${container} already exists (${state.status}), and this stack did not create it. Another checkout of this project ` +
      `may have created it, or the state was lost. Destroy the stack in that checkout, or remove the container ` +
      `(docker rm -f ${container}; its data volume stays), or use another stack name.`,
  );
}

/** @throws {Error} if the volume exists and no stack of this name created it, but for instance Compose. */
async function checkVolume({ stack, volume, dockerHost }: HostCheckInputs): Promise<void> {
  const format = '{{index .Labels "sectorwars.stack"}}';
  const owner = await docker(["volume", "inspect", "--format", format, volume], { host: dockerHost }).catch(
    (error: DockerError) => {
      if (/no such volume/i.test(error.stderr)) return undefined;
      throw error;
    },
  );
  if (owner === undefined || owner.trim() === stack) return;
  throw new Error(
    `The volume ${volume} already exists, and this stack did not create it. Copy its data elsewhere and remove it ` +
      `(docker volume rm ${volume}), or use another stack name.`,
  );
}

/** Whether an API version has a separate health check interval during the start: Docker Engine 25, API 1.44. */
export function knowsStartInterval(apiVersion: string): boolean {
  const [major = 0, minor = 0] = apiVersion.split(".").map(Number);
  return major > 1 || minor >= 44;
}

/** Provider of the resource with {@link HostCheckInputs}. It fails before Docker would. */
export const provider: dynamic.ResourceProvider = {
  async diff(id, olds: HostCheckInputs & { fingerprint?: string }, news: HostCheckInputs) {
    if (olds.builtOn !== undefined && olds.builtOn !== news.builtOn) await refuseOtherBase(news);
    return diffByFingerprint(id, olds, { ...news });
  },

  async create(inputs: HostCheckInputs) {
    const apiVersion = await checkEngine(inputs.dockerHost);
    await checkImage(inputs);
    await checkName(inputs);
    await checkVolume(inputs);
    await checkPort(inputs);
    return { id: inputs.container, outs: outsOf(inputs, apiVersion) };
  },

  async update(_id, _olds, inputs: HostCheckInputs) {
    const apiVersion = await checkEngine(inputs.dockerHost);
    await checkImage(inputs);
    await checkPort(inputs);
    return { outs: outsOf(inputs, apiVersion) };
  },
};

const outsOf = (inputs: HostCheckInputs, apiVersion: string) => ({
  ...inputs,
  knowsStartInterval: knowsStartInterval(apiVersion),
  fingerprint: inputsFingerprint({ ...inputs }),
});
