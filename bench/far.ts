/** A distant server: the delaying proxy of the tests, in its own process. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { TcpProxy } from "../test/support/proxy.ts";

/** A running proxy. */
export interface DelayingProxy {
  port: number;
  close(): void;
}

interface Order {
  to: { host: string; port: number };
  delayMs: number;
  listenOn: string;
}

/**
 * Starts a proxy to a server.
 * @param delayMs delay in each direction, in milliseconds.
 * @param listenOn address on which the proxy listens.
 */
export async function openDelayingProxy(to: Order["to"], delayMs: number, listenOn: string): Promise<DelayingProxy> {
  const child = fork(import.meta.filename);
  child.send({ to: { host: to.host, port: to.port }, delayMs, listenOn } satisfies Order);
  const [port] = await once(child, "message");
  return { port: Number(port), close: () => void child.kill() };
}

// The child process receives its order as a message, and answers with the port.
if (process.send && process.argv[1] === import.meta.filename) {
  process.once("message", async ({ to, delayMs, listenOn }: Order) => {
    const proxy = await TcpProxy.open(to, { delayMs }, listenOn);
    process.send?.(proxy.port);
  });
}
