/** A TCP proxy that simulates bad networks. It forwards any TCP connection, including TLS. */
import { createServer, type Server as NetServer, Socket } from "node:net";

/** The conditions of the network. Changes also apply to bytes that are in transit. */
export interface Conditions {
  /** The latency in milliseconds, in each direction. */
  delayMs: number;
  /** Bytes per second in each direction over all connections; 0 for no limit. */
  bytesPerSecond: number;
}

/** Bytes in transit in one direction of a connection before the sender has to wait, like a TCP window. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** The bytes of one direction of a connection. */
class Lane {
  private under = 0;
  private last: Promise<void> = Promise.resolve();
  private readonly from: Socket;
  private readonly to: Socket;
  private readonly proxy: TcpProxy;

  constructor(from: Socket, to: Socket, proxy: TcpProxy) {
    this.from = from;
    this.to = to;
    this.proxy = proxy;
    from.on("data", (chunk: Buffer) => this.carry(chunk));
    from.on("end", () => this.later(() => to.end()));
  }

  private carry(chunk: Buffer): void {
    // These bytes are accepted, but not delivered.
    if (this.proxy.isSilent) return;
    this.under += chunk.length;
    if (this.under > WINDOW_BYTES) this.from.pause();
    this.later(async () => {
      if (!this.proxy.isSilent && !this.to.write(chunk)) await this.room();
      this.under -= chunk.length;
      if (this.under <= WINDOW_BYTES && !this.proxy.isSilent) this.from.resume();
    }, chunk.length);
  }

  /** Resolves when the other end accepts bytes again, or has closed. */
  private room(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.to.off("drain", done).off("close", done);
        resolve();
      };
      this.to.on("drain", done).on("close", done);
    });
  }

  /** Keeps the order of the bytes, even if the conditions change. */
  private later(work: () => unknown, bytes = 0): void {
    const due = this.proxy.schedule(bytes);
    this.last = this.last
      .then(async () => {
        const wait = due - performance.now();
        if (wait > 0) await new Promise((done) => setTimeout(done, wait));
        await work();
      })
      .catch(() => {});
  }
}

/** A TCP proxy on a free port of the address given. */
export class TcpProxy {
  readonly port: number;
  /** The number of connections so far. */
  connections = 0;
  isSilent = false;
  private conditions: Conditions = { delayMs: 0, bytesPerSecond: 0 };
  private readonly server: NetServer;
  private readonly sockets = new Set<Socket>();
  /** The time at which the next byte can be sent. */
  private freeAt = 0;

  private constructor(server: NetServer, port: number) {
    this.server = server;
    this.port = port;
  }

  /**
   * Opens a proxy to a server.
   * @param listenOn 127.0.0.1 for programs on this machine; containers connect through their network's gateway.
   */
  static async open(
    to: { host: string; port: number },
    conditions: Partial<Conditions> = {},
    listenOn = "127.0.0.1",
  ): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, listenOn, resolve));
    const proxy = new TcpProxy(server, (server.address() as { port: number }).port);
    proxy.set(conditions);
    server.on("connection", (near) => {
      proxy.connections += 1;
      const far = new Socket({ allowHalfOpen: true });
      far.setNoDelay(true);
      proxy.join(near, far);
      far.connect(to.port, to.host);
    });
    return proxy;
  }

  set(conditions: Partial<Conditions>): void {
    this.conditions = { ...this.conditions, ...conditions };
  }

  /** Returns the time, as of performance.now(), at which this number of bytes, received now, is sent. */
  schedule(bytes: number): number {
    const { delayMs, bytesPerSecond } = this.conditions;
    const now = performance.now();
    if (bytesPerSecond <= 0) return now + delayMs;
    this.freeAt = Math.max(this.freeAt, now) + (bytes * 1000) / bytesPerSecond;
    return this.freeAt + delayMs;
  }

  /** Resets all connections at once, as if a router or a server process died. Accepts new ones. */
  cut(): void {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  /**
   * Silently stops forwarding: connections stay open, and sent bytes are accepted and lost. New connections are accepted too, and
   * get no answer. {@link heal} ends this for new connections; lost bytes stay lost.
   */
  silence(): void {
    this.isSilent = true;
    for (const socket of this.sockets) socket.pause();
  }

  /** Forwards new connections again. Resets the earlier ones, which lack bytes. */
  heal(): void {
    if (!this.isSilent) return;
    this.cut();
    this.isSilent = false;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  private join(near: Socket, far: Socket): void {
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.sockets.add(one);
      one.on("close", () => this.sockets.delete(one));
      // A regular end is delivered after the bytes before it; a reset is delivered at once.
      one.on("error", () => {
        if (!this.isSilent) other.resetAndDestroy();
      });
      new Lane(one, other, this);
    }
  }
}
