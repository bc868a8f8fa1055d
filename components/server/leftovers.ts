/**
 * Containers and networks that an interrupted update made and Pulumi never recorded. Docker refuses to make another one of the same
 * name, so they are removed in the moment before Pulumi makes its own: a hook on the creation runs exactly when the state holds none,
 * in an update and not in a preview. Volumes need none of this: Docker hands out the one that exists, with its data.
 */
import * as pulumi from "@pulumi/pulumi";
import { type DockerOptions, docker, removeContainer } from "../../lib/docker.ts";

/** Names the stack that an object belongs to. */
const STACK_LABEL = "sectorwars.stack";
/** Names the state that records an object: two checkouts may each have a stack of one name. */
const STATE_LABEL = "sectorwars.state";

/** Seconds that a leftover container gets to stop. */
const STOP_SECONDS = 120;
/** Milliseconds for a server to finish its initialisation: until then its first process does not hear the stop signal. */
const INITIALISED_WITHIN_MS = 60_000;
const LOOK_MS = 200;

type Kind = "container" | "network";

/** The label of what belongs to a stack, and may outlive its state. */
export const stackLabel = (stack: string) => ({ label: STACK_LABEL, value: stack });
/** The label of what one state records. */
export const stateLabel = (state: pulumi.Input<string>) => ({ label: STATE_LABEL, value: state });

/** An object that is about to be made. */
export interface Wanted {
  kind: Kind;
  /** Its name in Docker. */
  name: string;
  /** Value of the state's label. */
  state: pulumi.Input<string>;
  dockerHost: string | undefined;
  /** Whether it is a PostgreSQL server, which may still be initialising its data. */
  isServer?: boolean;
}

/** The hook for a resource's options that removes a leftover of the same name before the object is made. */
export const clearBefore = (wanted: Wanted): pulumi.ResourceHookBinding => ({
  beforeCreate: [
    async () => {
      const { promise, resolve } = Promise.withResolvers<string>();
      pulumi.output(wanted.state).apply(resolve);
      await clearLeftovers(wanted, await promise);
    },
  ],
});

/**
 * Removes every object of the wanted name that the same state's updates made.
 * @throws {Error} for one that somebody else made, and for a network that containers use.
 */
async function clearLeftovers(wanted: Wanted, state: string): Promise<void> {
  const { kind, name, dockerHost: host } = wanted;
  for (const id of await idsOf(kind, name, host)) {
    const template = kind === "container" ? "{{json .Config.Labels}}" : "{{json .Labels}}";
    const labels = JSON.parse(await docker([kind, "inspect", "--format", template, id], { host }));
    if (labels?.[STATE_LABEL] !== state) throw foreign(kind, name);
    if (kind === "container") await clearContainer(id, wanted);
    else await clearNetwork(id, name, { host });
    console.log(`removed the ${kind} ${name}, which an interrupted update left behind`);
  }
}

async function idsOf(kind: Kind, name: string, host: string | undefined): Promise<string[]> {
  const all = kind === "container" ? ["--all"] : [];
  const said = await docker([kind, "ls", ...all, "--no-trunc", "--quiet", "--filter", `name=^${name}$`], { host });
  return said.split("\n").filter(Boolean);
}

const foreign = (kind: Kind, name: string) =>
  new Error(
    `A ${kind} named ${name} exists already, and this stack did not make it: another checkout of this project may have made it, or ` +
      `the state that recorded it was lost. Destroy that stack there, or remove the ${kind} (docker ${kind} rm ` +
      `${kind === "container" ? "-f " : ""}${name}; data volumes stay), or use a stack of another name.`,
  );

/** A server is stopped in order, although nothing has written to it that its log would not bring back. */
async function clearContainer(id: string, { isServer = false, dockerHost: host }: Wanted): Promise<void> {
  if (isServer) await waitForInitialisation(id, { host });
  await docker(["stop", "-t", String(STOP_SECONDS), id], { host });
  await removeContainer(id, { host });
}

/** Waits while a server runs that does not answer over TCP yet; one that never does is stopped all the same. */
async function waitForInitialisation(id: string, options: DockerOptions): Promise<void> {
  const deadline = Date.now() + INITIALISED_WITHIN_MS;
  while (Date.now() < deadline) {
    const status = await docker(["inspect", "--format", "{{.State.Status}}", id], options);
    if (status.trim() !== "running") return;
    const answers = await docker(["exec", id, "pg_isready", "-q", "-h", "127.0.0.1"], options).then(
      () => true,
      () => false,
    );
    if (answers) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** A container on it may be the application's: taking its network away would cut it off. */
async function clearNetwork(id: string, name: string, options: DockerOptions): Promise<void> {
  const template = "{{range .Containers}}{{.Name}} {{end}}";
  const users = (await docker(["network", "inspect", "--format", template, id], options)).trim();
  if (users !== "") {
    throw new Error(
      `The network ${name}, which an interrupted update left behind, is in use by ${users.replaceAll(" ", ", ")}. Stop ` +
        `${users.includes(" ") ? "them" : "it"} (docker compose down in the application's folder), then try again.`,
    );
  }
  await docker(["network", "rm", id], options);
}
