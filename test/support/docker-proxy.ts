/** A proxy to the Docker engine that can withhold one answer: the engine has carried out the request, but the client does not learn it. */
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { resolve } from "node:path";

/** The socket of the Docker engine. */
const ENGINE = "/var/run/docker.sock";

/**
 * Decides on each request by its first line, for example `POST /v1.41/networks/create HTTP/1.1`, or the beginning of a long one.
 * `unsent` withholds the request from the engine, `unheard` the engine's answer; undefined lets both pass.
 */
export type Judge = (request: string) => "unsent" | "unheard" | undefined;

/** The proxy. Call {@link DockerProxy.end} after use. */
export class DockerProxy {
  readonly host: string;
  /** Resolves with the request once it or its answer is withheld. Later data on the same connection is withheld too. */
  readonly withheld: Promise<string>;
  private readonly path: string;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private hold: (request: string) => void = () => {};
  private forward: () => void = () => {};

  private constructor(path: string, judge: Judge) {
    this.path = resolve(path);
    this.host = `unix://${this.path}`;
    this.withheld = new Promise((found) => {
      this.hold = found;
    });
    this.server = createServer({ allowHalfOpen: true }, (client) => this.serve(client, judge));
  }

  /** Listens on a new socket. @param path the socket's path, at most 107 bytes. */
  static async begin(path: string, judge: Judge): Promise<DockerProxy> {
    const proxy = new DockerProxy(path, judge);
    await once(proxy.server.listen(proxy.path), "listening");
    return proxy;
  }

  private serve(client: Socket, judge: Judge): void {
    const engine = connect({ path: ENGINE, allowHalfOpen: true });
    let unheard: string | undefined;
    let isHeld = false;
    for (const socket of [client, engine]) {
      this.sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.sockets.delete(socket));
    }
    client.on("data", (chunk: Buffer) => {
      if (isHeld) return;
      const request = /^(?:GET|HEAD|POST|PUT|DELETE) \/\S*(?: HTTP\/1\.1)?/.exec(chunk.toString("latin1"))?.[0];
      const verdict = request === undefined ? undefined : judge(request);
      if (verdict === "unheard") unheard = request;
      if (verdict === "unsent") {
        isHeld = true;
        this.hold(request ?? "");
      } else engine.write(chunk);
    });
    const kept: Buffer[] = [];
    engine.on("data", (chunk: Buffer) => {
      if (unheard === undefined) return void client.write(chunk);
      kept.push(chunk);
      if (isHeld) return;
      isHeld = true;
      this.forward = () => {
        isHeld = false;
        unheard = undefined;
        for (const each of kept.splice(0)) client.write(each);
      };
      this.hold(unheard);
    });
    client.on("end", () => engine.end());
    engine.on("end", () => client.end());
    client.on("close", () => engine.destroy());
    engine.on("close", () => client.destroy());
  }

  /** Forwards the withheld answer. */
  release(): void {
    this.forward();
  }

  /** Closes the proxy and all its connections. */
  async end(): Promise<void> {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    await rm(this.path, { force: true });
  }
}
