/** Finds out whether a port of this machine is free, before Docker would fail half-way. */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { docker, isRemoteEngine } from "../../lib/docker.ts";
import { LOOPBACK, reachedAt } from "./settings.ts";

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

/** A port that a container is about to publish. */
export interface WantedPort {
  port: number;
  /** The address on which it is published; 127.0.0.1 by default. */
  listen?: string | undefined;
  /** The setting with which the user chooses another port. */
  setting: string;
  /** The stack's own container, which may publish the port already. */
  container: string;
  dockerHost: string | undefined;
}

/** @throws {Error} with the program that uses the port, and a free one. */
export async function checkPort({
  port,
  listen = LOOPBACK,
  setting,
  dockerHost,
  container,
}: WantedPort): Promise<void> {
  // With a remote engine, the port is in use as soon as it is forwarded, as it should be.
  if (isRemoteEngine(dockerHost) || !(await isTaken(port, reachedAt(listen)))) return;
  const publisher = await publisherOf(port, dockerHost);
  // In an update, the stack's own container uses the port.
  if (publisher === container) return;
  throw new Error(
    `Port ${port} on ${listen} is in use${publisher ? ` by the container ${publisher}` : " by another program"}. ` +
      `Stop it, or choose another port: pulumi config set ${setting} ${await freePort(port + 1)}`,
  );
}
