/** The messages of PostgreSQL's protocol that a proxy reads or writes itself (PostgreSQL manual, "Message Formats"). */

/** Codes of the requests that a client can send before its start-up message. */
export const REQUESTS = { tls: 80877103, gss: 80877104 } as const;
const VERSION_3 = 196608;

/** The parameters of a start-up message: user, database, options and others. */
export type Startup = Record<string, string>;

/** Reads a start-up message. */
export async function readStartup(read: (bytes: number) => Promise<Buffer>): Promise<Startup> {
  const length = (await read(4)).readInt32BE(0);
  const body = await read(length - 4);
  const words = body.subarray(4).toString().split("\0");
  const startup: Startup = {};
  for (let i = 0; words[i]; i += 2) startup[words[i] as string] = words[i + 1] ?? "";
  return startup;
}

/** Writes a start-up message. */
export function writeStartup(startup: Startup): Buffer {
  const words = Buffer.from(`${Object.entries(startup).flat().join("\0")}\0\0`);
  const head = Buffer.alloc(8);
  head.writeInt32BE(8 + words.length, 0);
  head.writeInt32BE(VERSION_3, 4);
  return Buffer.concat([head, words]);
}

/** Returns the bytes of a FATAL error. */
export function errorResponse(code: string, message: string): Buffer {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${code}\0M${message}\0\0`);
  const head = Buffer.alloc(5);
  head.write("E");
  head.writeInt32BE(4 + fields.length, 1);
  return Buffer.concat([head, fields]);
}
