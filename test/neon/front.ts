/**
 * A proxy like the one in front of Neon's endpoints: it terminates TLS, finds the endpoint by the requested host name (SNI),
 * wakes it, and forwards everything.
 */
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import type { ServerCertificate } from "../../lib/certificates.ts";
import { errorResponse, REQUESTS, readStartup, type Startup, writeStartup } from "./protocol.ts";

/** The server for a host name. With an authority, the proxy connects over TLS, so that the server can offer channel binding. */
export interface Upstream {
  port: number;
  authority?: string;
}

/** A connection from a client that has sent its start-up message. */
export interface Visit {
  /** The host name that the client requested. */
  host: string;
  user: string;
  application: string;
  /** The client's SASL mechanism; undefined if it sent no proof of its password. */
  mechanism?: string;
}

/** SQLSTATE internal_error, which Neon's proxy uses for most of its own errors. */
const INTERNAL = "XX000";

/** The proxy of a lab. */
export class Front {
  /** All connections that sent a start-up message, in order of time. */
  readonly visits: Visit[] = [];
  /** Number of connections whose TLS handshake failed. */
  refused = 0;
  private readonly upstreams: Record<string, Upstream>;
  private readonly servers: net.Server[] = [];
  private readonly sockets = new Set<net.Socket>();
  private readonly secure: tls.Server;
  private sleeping = { failures: 0, message: "", milliseconds: 0 };

  private constructor(certificate: ServerCertificate, upstreams: Record<string, Upstream>) {
    this.upstreams = upstreams;
    this.secure = tls.createServer({ cert: certificate.certificate, key: certificate.key });
    this.secure.on("secureConnection", (client) => this.serve(client).catch(() => client.destroy()));
    this.secure.on("tlsClientError", () => {
      this.refused += 1;
    });
  }

  /** Listens on these addresses. @param upstreams servers by host name. */
  static async open(
    certificate: ServerCertificate,
    upstreams: Record<string, Upstream>,
    addresses: string[],
  ): Promise<Front> {
    const front = new Front(certificate, upstreams);
    for (const address of addresses) {
      const server = net.createServer((socket) => front.greet(socket).catch(() => socket.destroy()));
      front.servers.push(server);
      await once(server.listen(0, address), "listening");
    }
    return front;
  }

  /** Returns the port at the n-th address, counted from 0. */
  port(index: number): number {
    const [address] = this.servers.slice(index).map((server) => server.address() as net.AddressInfo);
    return address?.port ?? 0;
  }

  /** Suspends the endpoint: the next `failures` connections fail with the message, and the one after that waits until it is awake. */
  suspend(how: { failures?: number; message?: string; milliseconds?: number }): void {
    this.sleeping = { failures: 0, message: "Couldn't connect to compute node", milliseconds: 0, ...how };
  }

  /** Closes every connection, as a restart of the proxy does. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await Promise.all(this.servers.map((server) => new Promise((done) => server.close(done))));
  }

  private watch<Socket extends net.Socket>(socket: Socket): Socket {
    this.sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.sockets.delete(socket));
    return socket;
  }

  /** Answers the requests before TLS. Refuses connections without TLS. */
  private async greet(socket: net.Socket): Promise<void> {
    this.watch(socket);
    for (;;) {
      const request = await read(socket, 8);
      const code = request.readInt32BE(4);
      if (code === REQUESTS.gss) {
        socket.write("N");
      } else if (code === REQUESTS.tls) {
        socket.write("S");
        this.secure.emit("connection", socket);
        return;
      } else {
        socket.end(errorResponse("28000", "connection is insecure (try using `sslmode=require`)"));
        return;
      }
    }
  }

  private async serve(client: tls.TLSSocket): Promise<void> {
    this.watch(client);
    const startup = await readStartup((bytes) => read(client, bytes));
    const host = client.servername || "";
    const { user = "", application_name = "" } = startup;
    const visit: Visit = { host, user, application: application_name };
    this.visits.push(visit);
    const upstream = this.upstreams[host];
    const [endpoint = ""] = host.split(".");
    const { requested, rest } = takeEndpoint(startup);
    if (upstream === undefined) {
      client.end(errorResponse(INTERNAL, "The requested endpoint could not be found, or you don't have access to it."));
    } else if (requested !== undefined && requested !== endpoint) {
      const message = `Inconsistent project name inferred from SNI ('${endpoint}') and project option ('${requested}').`;
      client.end(errorResponse("08P01", message));
    } else if (this.sleeping.failures > 0) {
      this.sleeping.failures -= 1;
      client.end(errorResponse(INTERNAL, this.sleeping.message));
    } else {
      const { milliseconds } = this.sleeping;
      this.sleeping.milliseconds = 0;
      await sleep(milliseconds);
      const server = await this.connect(upstream);
      server.write(writeStartup(rest));
      client.once("data", (first: Buffer) => {
        visit.mechanism = mechanismOf(first);
      });
      client.pipe(server).pipe(client);
      client.once("close", () => server.destroy());
      server.once("close", () => client.destroy());
    }
  }

  private async connect({ port, authority }: Upstream): Promise<net.Socket> {
    const plain = this.watch(net.connect(port, "127.0.0.1"));
    await once(plain, "connect");
    if (authority === undefined) return plain;
    const request = Buffer.alloc(8);
    request.writeInt32BE(8, 0);
    request.writeInt32BE(REQUESTS.tls, 4);
    plain.write(request);
    await read(plain, 1);
    const secured = this.watch(tls.connect({ socket: plain, ca: authority, servername: "localhost" }));
    await once(secured, "secureConnect");
    return secured;
  }
}

/** Reads exactly this number of bytes; the TLS server needs the bytes after them. */
async function read(socket: net.Socket, bytes: number): Promise<Buffer> {
  for (;;) {
    const chunk = socket.read(bytes) as Buffer | null;
    if (chunk !== null) return chunk;
    if (socket.readableEnded || socket.destroyed) throw new Error("The connection ended");
    await Promise.race([once(socket, "readable"), once(socket, "close")]);
  }
}

/** Returns the SASL mechanism in a password message: a p, the length, and in SCRAM's first message the mechanism's name. */
const mechanismOf = (message: Buffer): string | undefined =>
  message[0] === 0x70 ? message.subarray(5).toString().split("\0")[0] : undefined;

/** Separates Neon's own option, which its proxy does not forward, from the rest of the start-up message. */
function takeEndpoint(startup: Startup): { requested: string | undefined; rest: Startup } {
  const options = startup.options?.split(" ") ?? [];
  const own = options.filter((option) => /^(endpoint|project)=/.test(option));
  const others = options.filter((option) => !own.includes(option)).join(" ");
  const { options: _, ...rest } = startup;
  return { requested: own[0]?.split("=")[1], rest: others === "" ? rest : { ...rest, options: others } };
}
