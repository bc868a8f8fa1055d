/** A long way to a server: the delaying proxy of the tests, in a process of its own. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { TcpProxy } from "../test/support/proxy.ts";

/** A way that is open. */
export interface FarWay {
  port: number;
  close(): void;
}

interface Order {
  to: { host: string; port: number };
  delayMs: number;
  listenOn: string;
}

/**
 * Opens a way to a server.
 * @param delayMs each way, ms.
 * @param listenOn address that the way begins at.
 */
export async function openFarWay(to: Order["to"], delayMs: number, listenOn: string): Promise<FarWay> {
  const child = fork(import.meta.filename);
  child.send({ to: { host: to.host, port: to.port }, delayMs, listenOn } satisfies Order);
  const [port] = await once(child, "message");
  return { port: Number(port), close: () => void child.kill() };
}

// As the child: the order comes as a message, the port goes back as one.
if (process.send && process.argv[1] === import.meta.filename) {
  process.once("message", async ({ to, delayMs, listenOn }: Order) => {
    const proxy = await TcpProxy.open(to, { delayMs }, listenOn);
    process.send?.(proxy.port);
  });
}
