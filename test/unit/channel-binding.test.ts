/** A client that requires channel binding, and servers that authenticate in other ways, over a real connection. */
import { once } from "node:events";
import net from "node:net";
import { afterEach, expect, test } from "vitest";
import { connect } from "../../lib/postgres.ts";

const PASSWORD = "never-to-be-sent";
let server: net.Server | undefined;
afterEach(() => server?.close());

/** Authentication messages (PostgreSQL manual, "Message Formats"). */
const request = (code: number, ...more: Buffer[]) => {
  const rest = Buffer.concat(more);
  const head = Buffer.from("R........");
  head.writeInt32BE(8 + rest.length, 1);
  head.writeInt32BE(code, 5);
  return Buffer.concat([head, rest]);
};
const NOTHING = Buffer.from("I\0\0\0\u0004");
const READY = Buffer.from("Z\0\0\0\u0005I");

/** Starts a server that answers the start-up message, and returns what it receives after that. */
async function startServer(answer: Buffer): Promise<{ port: number; heard: Buffer[] }> {
  const heard: Buffer[] = [];
  server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.on("data", (data) => {
        heard.push(data);
        if (data.toString("latin1", 0, 1) === "Q") socket.write(Buffer.concat([NOTHING, READY]));
      });
      socket.write(answer);
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { port: (server.address() as net.AddressInfo).port, heard };
}

test.each([
  ["in clear text", request(3)],
  ["as MD5", request(5, Buffer.from("salt"))],
  ["by SCRAM without binding", request(10, Buffer.from("SCRAM-SHA-256\0\0"))],
])("a server that asks for the password %s does not get it", async (_how, answer) => {
  const { port, heard } = await startServer(answer);
  const address = { host: "127.0.0.1", port, database: "game", user: "ada", password: PASSWORD };
  await expect(connect({ ...address, channelBinding: "require" }, { patienceMs: 5000 })).rejects.toThrow(
    "the server does not offer channel binding (SCRAM-SHA-256-PLUS), which channel_binding=require demands; the password was not sent",
  );
  // The client may only send Terminate.
  expect(["", "X\0\0\0\u0004"]).toContain(Buffer.concat(heard).toString());
});

test("a server that asks for no password is refused if channel binding is required", async () => {
  const { port } = await startServer(Buffer.concat([request(0), READY]));
  const address = { host: "127.0.0.1", port, database: "game", user: "ada", password: PASSWORD };
  await (await connect(address)).end();
  await expect(connect({ ...address, channelBinding: "require" })).rejects.toThrow(/does not offer channel binding/);
});
