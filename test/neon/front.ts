/**
 * A proxy as Neon has one before its endpoints: it ends TLS, finds the endpoint by the name that the client asked for (SNI),
 * wakes it, and passes everything on.
 */
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import type { ServerCertificate } from "../../lib/certificates.ts";
import { errorResponse, REQUESTS, readStartup, type Startup, writeStartup } from "./protocol.ts";

/** Where a name leads. With certificates, the way goes on encrypted: so the server, too, can offer channel binding. */
export interface Upstream {
  port: number;
  authority?: string;
}

/** A connection that a client has begun. */
export interface Visit {
  /** The name that the client asked for. */
  host: string;
  user: string;
  application: string;
  /** How the client proved its password; undefined for one that sent no proof. */
  mechanism?: string;
}

/** SQLSTATE of an internal error, which is what Neon's proxy calls most of its own. */
const INTERNAL = "XX000";

/** The proxy of one lab. */
export class Front {
  /** All connections that got as far as to say who they are, in order of time. */
  readonly visits: Visit[] = [];
  /** Connections on which the client's TLS did not come about. */
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

  /** @param upstreams by host name. */
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

  /** The port that it listens on at the address of that number. */
  port(index: number): number {
    const [address] = this.servers.slice(index).map((server) => server.address() as net.AddressInfo);
    return address?.port ?? 0;
  }

  /** The endpoint is suspended: the next connections fail with the message, then one waits until it is awake. */
  suspend(how: { failures?: number; message?: string; milliseconds?: number }): void {
    this.sleeping = { failures: 0, message: "Couldn't connect to compute node", milliseconds: 0, ...how };
  }

  /** Cuts every connection, as a proxy that is restarted. */
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

  /** Answers what is asked before TLS begins. Without TLS nobody gets in. */
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
    const { asked, rest } = takeEndpoint(startup);
    if (upstream === undefined) {
      client.end(errorResponse(INTERNAL, "The requested endpoint could not be found, or you don't have access to it."));
    } else if (asked !== undefined && asked !== endpoint) {
      const message = `Inconsistent project name inferred from SNI ('${endpoint}') and project option ('${asked}').`;
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

/** So many bytes, and not one more: what comes behind them may be for somebody else. */
async function read(socket: net.Socket, bytes: number): Promise<Buffer> {
  for (;;) {
    const chunk = socket.read(bytes) as Buffer | null;
    if (chunk !== null) return chunk;
    if (socket.readableEnded || socket.destroyed) throw new Error("the connection ended");
    await Promise.race([once(socket, "readable"), once(socket, "close")]);
  }
}

/** A password message begins with p and its length; the first of SCRAM goes on with the mechanism's name. */
const mechanismOf = (message: Buffer): string | undefined =>
  message[0] === 0x70 ? message.subarray(5).toString().split("\0")[0] : undefined;

/** Neon's own option, which its proxy keeps for itself, and what goes on to the server. */
function takeEndpoint(startup: Startup): { asked: string | undefined; rest: Startup } {
  const options = startup.options?.split(" ") ?? [];
  const own = options.filter((option) => /^(endpoint|project)=/.test(option));
  const others = options.filter((option) => !own.includes(option)).join(" ");
  const { options: _, ...rest } = startup;
  return { asked: own[0]?.split("=")[1], rest: others === "" ? rest : { ...rest, options: others } };
}
