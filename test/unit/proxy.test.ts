/** The proxy with which other tests simulate a bad network. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TcpProxy } from "../support/proxy.ts";

let echo: Server;
let arrived: Socket[];
let proxy: TcpProxy;

beforeEach(async () => {
  arrived = [];
  echo = createServer((socket) => {
    arrived.push(socket);
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
  proxy = await TcpProxy.open({ host: "127.0.0.1", port: (echo.address() as { port: number }).port });
});
afterEach(async () => {
  await proxy.close();
  for (const socket of arrived) socket.destroy();
  echo.close();
});

const client = async (): Promise<Socket> => {
  const socket = connect(proxy.port, "127.0.0.1");
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
};

/** Resolves at the close of a socket. Unlike `once`, it does not reject on an error. */
const closing = (socket: Socket) => new Promise((resolve) => socket.on("close", resolve));

async function roundTrip(socket: Socket): Promise<number> {
  const begun = performance.now();
  socket.write("?");
  await once(socket, "data");
  return performance.now() - begun;
}

test("TcpProxy carries every byte in order and the end of the stream, with delay and limited bandwidth", async () => {
  proxy.set({ delayMs: 3, bytesPerSecond: 40 * 1024 * 1024 });
  const sent = randomBytes(9 * 1024 * 1024);
  const socket = await client();
  socket.end(sent);
  const back = await buffer(socket);
  const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
  expect(digest(back)).toBe(digest(sent));
});

test("TcpProxy delays each direction, and applies a new delay to open connections", async () => {
  const socket = await client();
  await roundTrip(socket);
  proxy.set({ delayMs: 40 });
  // A timer of Node may fire up to a millisecond early, once in each direction.
  expect(await roundTrip(socket)).toBeGreaterThan(77);
  proxy.set({ delayMs: 0 });
  const trips: number[] = [];
  for (let trip = 0; trip < 10; trip += 1) trips.push(await roundTrip(socket));
  // The fastest of ten, because a busy machine may delay any of them.
  expect(Math.min(...trips)).toBeLessThan(77);
  socket.destroy();
});

test("TcpProxy limits the bandwidth", async () => {
  proxy.set({ bytesPerSecond: 1_000_000 });
  const socket = await client();
  const begun = performance.now();
  socket.end(Buffer.alloc(100_000));
  expect(await buffer(socket)).toHaveLength(100_000);
  // Both directions share the bandwidth.
  expect(performance.now() - begun).toBeGreaterThan(190);
});

test("TcpProxy resets both ends of a connection, and accepts new connections", async () => {
  const socket = await client();
  await roundTrip(socket);
  const ends = [closing(socket), closing(arrived[0] as Socket)];
  const errors: string[] = [];
  socket.on("error", (error: NodeJS.ErrnoException) => errors.push(error.code ?? ""));
  proxy.cut();
  await Promise.all(ends);
  expect(errors).toEqual(["ECONNRESET"]);
  const another = await client();
  await roundTrip(another);
  another.destroy();
});

test("TcpProxy drops data without closing connections, and then works for new ones", async () => {
  const socket = await client();
  await roundTrip(socket);
  proxy.silence();
  const events: string[] = [];
  for (const event of ["data", "end", "close", "error"]) socket.on(event, () => events.push(event));
  socket.write("?");
  const unheard = await client();
  unheard.on("data", () => events.push("an answer to the new one"));
  unheard.write("?");
  await sleep(150);
  expect(events).toEqual([]);
  expect(arrived[0]?.destroyed).toBe(false);
  const closed = closing(socket);
  proxy.heal();
  await closed;
  const another = await client();
  await roundTrip(another);
  another.destroy();
});
