/**
 * Removes containers and networks that an interrupted update created and Pulumi did not record. Docker refuses to create another one with
 * the same name, so a hook removes them right before Pulumi creates its own. A creation hook runs only if the state has no such resource,
 * and only in updates. Volumes do not need this: creating an existing volume returns it, with its data.
 */
import * as pulumi from "@pulumi/pulumi";
import { type DockerOptions, docker, removeContainer } from "../../lib/docker.ts";

/** The label with the stack that an object belongs to. */
const STACK_LABEL = "sectorwars.stack";
/** The label of a stack's replicas. Its value is the stack. */
const REPLICA_LABEL = "sectorwars.replica-of";
/** The label with the identity of the state that records an object. Two checkouts may each have a stack with the same name. */
const STATE_LABEL = "sectorwars.state";

/** Seconds that a leftover container has to stop. */
const STOP_SECONDS = 120;
/** Milliseconds that a server has to finish its initialisation. Until then its first process does not handle the stop signal. */
const INITIALISED_WITHIN_MS = 60_000;
const POLL_MS = 200;

type Kind = "container" | "network";

/** Returns the label of objects that belong to a stack and may outlive its state. */
export const stackLabel = (stack: string) => ({ label: STACK_LABEL, value: stack });
/** Returns the label of a replica. */
export const replicaLabel = (stack: string) => ({ label: REPLICA_LABEL, value: stack });
/** Returns the label of objects that a state records. */
export const stateLabel = (state: pulumi.Input<string>) => ({ label: STATE_LABEL, value: state });

/** An object that is about to be created. */
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

/** Returns the hook for a resource's options that removes a leftover with the same name before the object is created. */
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
 * Removes every object with the wanted name that updates of the same state created.
 * @throws {Error} for an object that this stack did not create, and for a network that containers use.
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
    `The ${kind} ${name} already exists, and this stack did not create it. Another checkout of this project may have created it, or ` +
      `the state was lost. Destroy the stack in that checkout, or remove the ${kind} (docker ${kind} rm ` +
      `${kind === "container" ? "-f " : ""}${name}; data volumes stay), or use another stack name.`,
  );

/** Stops and removes a container. A server is shut down cleanly, although it would also recover from a crash. */
async function clearContainer(id: string, { isServer = false, dockerHost: host }: Wanted): Promise<void> {
  if (isServer) await waitForInitialisation(id, { host });
  await docker(["stop", "-t", String(STOP_SECONDS), id], { host });
  await removeContainer(id, { host });
}

/** Waits until a running server answers over TCP, for at most {@link INITIALISED_WITHIN_MS}. */
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
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** @throws {Error} if containers use the network, because they may be the application's and would be disconnected. */
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
