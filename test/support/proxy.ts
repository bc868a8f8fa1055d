/** A stretch of network between two programs that can be made as bad as real ones are. It carries any TCP, TLS included. */
import { createServer, type Server as NetServer, Socket } from "node:net";

/** How the stretch behaves. Changes apply to what is under way, too. */
export interface Conditions {
  /** Milliseconds that a byte needs each way. */
  delayMs: number;
  /** Bytes a second each way over all connections; 0 is as fast as it goes. */
  bytesPerSecond: number;
}

/** Bytes under way in one direction of one connection before the sender has to wait, as in a window of TCP. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** One end's bytes on their way to the other. */
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
    // Nobody refuses these bytes, and nobody ever sees them.
    if (this.proxy.isSilent) return;
    this.under += chunk.length;
    if (this.under > WINDOW_BYTES) this.from.pause();
    this.later(async () => {
      if (!this.proxy.isSilent && !this.to.write(chunk)) await this.room();
      this.under -= chunk.length;
      if (this.under <= WINDOW_BYTES && !this.proxy.isSilent) this.from.resume();
    }, chunk.length);
  }

  /** Kept when the other end takes bytes again, or is gone. */
  private room(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.to.off("drain", done).off("close", done);
        resolve();
      };
      this.to.on("drain", done).on("close", done);
    });
  }

  /** Order is kept: what came later leaves later, however the conditions change meanwhile. */
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
  /** Connections that were made through it so far. */
  connections = 0;
  isSilent = false;
  private conditions: Conditions = { delayMs: 0, bytesPerSecond: 0 };
  private readonly server: NetServer;
  private readonly sockets = new Set<Socket>();
  /** When the line is free again for the next byte. */
  private freeAt = 0;

  private constructor(server: NetServer, port: number) {
    this.server = server;
    this.port = port;
  }

  /**
   * Opens a stretch to a server.
   * @param listenOn 127.0.0.1 for programs on this machine; containers come in by their network's gateway.
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

  /** The moment, as performance.now() tells it, at which so many bytes that came in now are to leave. */
  schedule(bytes: number): number {
    const { delayMs, bytesPerSecond } = this.conditions;
    const now = performance.now();
    if (bytesPerSecond <= 0) return now + delayMs;
    this.freeAt = Math.max(this.freeAt, now) + (bytes * 1000) / bytesPerSecond;
    return this.freeAt + delayMs;
  }

  /** Every connection ends at once with a reset, as when a router or a server process dies. New ones are accepted. */
  cut(): void {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  /**
   * Nothing passes any more, and nobody is told: connections stay open, what is sent is taken and lost. New connections are
   * taken too, and get no answer. {@link heal} ends it for those; what was lost before stays lost.
   */
  silence(): void {
    this.isSilent = true;
    for (const socket of this.sockets) socket.pause();
  }

  /** New connections work again. Those from before are reset: bytes of theirs are missing. */
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
      // An end that is in order travels behind the bytes before it; a reset overtakes them.
      one.on("error", () => {
        if (!this.isSilent) other.resetAndDestroy();
      });
      new Lane(one, other, this);
    }
  }
}
