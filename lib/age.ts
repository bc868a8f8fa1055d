/**
 * Encryption in age's format (age-encryption.org/v1), as streams. Header and keys are the work of age's own library; the payload
 * goes through OpenSSL, because the library's ChaCha20 in JavaScript would cost the import more processor time than all else it
 * does (figures in docs/safety-copy.md).
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { Transform, type TransformCallback } from "node:stream";
import { Decrypter, Encrypter } from "age-encryption";

/** The payload is cut into pieces of this size, each sealed by itself (specification of age, "Payload"). */
const PIECE_BYTES = 64 * 1024;
const TAG_BYTES = 16;
const NONCE_BYTES = 16;
const CIPHER = "chacha20-poly1305";
/** A header is a few lines. What has none within so many bytes is not age's. */
const MAX_HEADER_BYTES = 64 * 1024;
const HEADER_BEGINS = "age-encryption.org/v1\n";
/** Between the last line of the header, `--- ` with its MAC, and the payload. */
const HEADER_ENDS = /\n--- [A-Za-z0-9+/]{43}\n/;

/** A file that no identity at hand can open, or that was changed or cut short since it was written. */
export class AgeError extends Error {
  override readonly name = "AgeError";
}

/** The key of one payload, and the number of the piece whose turn it is, with the mark of the last one. */
class Pieces {
  private readonly key: Uint8Array;
  private readonly counter = Buffer.alloc(12);
  private number = 0;

  constructor(fileKey: Uint8Array, nonce: Uint8Array) {
    this.key = new Uint8Array(hkdfSync("sha256", fileKey, nonce, "payload", 32));
  }

  private next(isLast: boolean): Buffer {
    // Eleven bytes of the number, of which six are more than any disk needs, and one that marks the last piece.
    this.counter.writeUIntBE(this.number, 5, 6);
    this.counter[11] = isLast ? 1 : 0;
    this.number += 1;
    return this.counter;
  }

  seal(piece: Uint8Array, isLast: boolean): Buffer {
    const cipher = createCipheriv(CIPHER, this.key, this.next(isLast), { authTagLength: TAG_BYTES });
    const sealed = cipher.update(piece);
    cipher.final();
    return Buffer.concat([sealed, cipher.getAuthTag()]);
  }

  /** @throws {AgeError} for a piece that is not what was sealed. */
  open(sealed: Buffer, isLast: boolean): Buffer {
    if (sealed.length < TAG_BYTES || (isLast && sealed.length === TAG_BYTES && this.number > 0)) throw changed();
    const decipher = createDecipheriv(CIPHER, this.key, this.next(isLast), { authTagLength: TAG_BYTES });
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
    const piece = decipher.update(sealed.subarray(0, -TAG_BYTES));
    try {
      decipher.final();
    } catch {
      throw changed();
    }
    return piece;
  }
}

const changed = () => new AgeError("it was changed or cut short since it was written");

/** Cuts a stream into pieces of one size. The last one, which may be shorter, is told apart only when the stream has ended. */
class Cutter {
  private readonly size: number;
  private kept: Buffer[] = [];
  private length = 0;

  constructor(size: number) {
    this.size = size;
  }

  /** Whole pieces behind which something follows. */
  *add(chunk: Buffer): Generator<Buffer> {
    this.kept.push(chunk);
    this.length += chunk.length;
    if (this.length <= this.size) return;
    let all = Buffer.concat(this.kept, this.length);
    while (all.length > this.size) {
      yield all.subarray(0, this.size);
      all = all.subarray(this.size);
    }
    this.kept = [all];
    this.length = all.length;
  }

  last(): Buffer {
    return Buffer.concat(this.kept, this.length);
  }
}

/** A header for a recipient, made by the library, and the key of the file that it begins. */
async function makeHeader(recipient: string): Promise<{ header: Uint8Array; fileKey: Uint8Array }> {
  let fileKey = new Uint8Array();
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  // Told of the key, and adds nothing to the header.
  encrypter.addRecipient({
    wrapFileKey(key) {
      fileKey = key.slice();
      return [];
    },
  });
  const empty = await encrypter.encrypt(new Uint8Array());
  return { header: empty.subarray(0, empty.length - NONCE_BYTES - TAG_BYTES), fileKey };
}

/**
 * Encrypts what goes through to a recipient.
 * @param recipient age's public key, `age1...`.
 */
export function seal(recipient: string): Transform {
  const cutter = new Cutter(PIECE_BYTES);
  let pieces: Pieces | undefined;
  const begin = async (stream: Transform): Promise<Pieces> => {
    const { header, fileKey } = await makeHeader(recipient);
    const nonce = randomBytes(NONCE_BYTES);
    stream.push(header);
    stream.push(nonce);
    return new Pieces(fileKey, nonce);
  };
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      settle(done, async () => {
        pieces ??= await begin(this);
        for (const piece of cutter.add(chunk)) this.push(pieces.seal(piece, false));
      });
    },
    flush(done) {
      settle(done, async () => {
        pieces ??= await begin(this);
        this.push(pieces.seal(cutter.last(), true));
      });
    },
  });
}

/**
 * Decrypts what goes through. What comes out is genuine; that it is complete is known when the stream ends without an error.
 * The stream fails with an {@link AgeError} for a wrong identity, for what is no age file, and for one that was changed.
 * @param identities age's private keys, `AGE-SECRET-KEY-1...`; any of them may fit.
 */
export function unseal(identities: readonly string[]): Transform {
  const cutter = new Cutter(PIECE_BYTES + TAG_BYTES);
  let head = Buffer.alloc(0);
  let pieces: Pieces | undefined;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      settle(done, async () => {
        let rest = chunk;
        if (pieces === undefined) {
          head = Buffer.concat([head, chunk]);
          const end = endOfHeader(head);
          if (end === undefined || head.length < end + NONCE_BYTES) return;
          pieces = new Pieces(
            await openHeader(head.subarray(0, end), identities),
            head.subarray(end, end + NONCE_BYTES),
          );
          rest = head.subarray(end + NONCE_BYTES);
        }
        for (const piece of cutter.add(rest)) this.push(pieces.open(piece, false));
      });
    },
    flush(done) {
      settle(done, async () => {
        if (pieces === undefined) throw changed();
        this.push(pieces.open(cutter.last(), true));
      });
    },
  });
}

function settle(done: TransformCallback, work: () => Promise<void>): void {
  work().then(
    () => done(),
    (error) => done(error),
  );
}

/** Where the header ends, or undefined while it has not been read to its end. */
function endOfHeader(head: Buffer): number | undefined {
  const text = head.subarray(0, MAX_HEADER_BYTES).toString("latin1");
  if (!HEADER_BEGINS.startsWith(text.slice(0, HEADER_BEGINS.length))) throw new AgeError("it is no file of age's");
  const found = HEADER_ENDS.exec(text);
  if (found) return found.index + found[0].length;
  if (text.length === MAX_HEADER_BYTES) throw changed();
  return undefined;
}

async function openHeader(header: Uint8Array, identities: readonly string[]): Promise<Uint8Array> {
  const decrypter = new Decrypter();
  for (const identity of identities) decrypter.addIdentity(identity);
  try {
    return await decrypter.decryptHeader(header);
  } catch (error) {
    if (/no identity matched/i.test((error as Error).message)) {
      throw new AgeError("it was encrypted for another identity than the one at hand");
    }
    throw changed();
  }
}
