/**
 * Encryption in age's format (age-encryption.org/v1), as streams. age's own library handles header and keys. OpenSSL encrypts the
 * payload, because the library's ChaCha20 in JavaScript would take more processor time than the rest of the import (figures in
 * docs/safety-copy.md).
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { Transform, type TransformCallback } from "node:stream";
import { Decrypter, Encrypter } from "age-encryption";

/** The size of the payload's chunks, each of which is encrypted separately (age specification, "Payload"). */
const PIECE_BYTES = 64 * 1024;
const TAG_BYTES = 16;
const NONCE_BYTES = 16;
const CIPHER = "chacha20-poly1305";
/** A header has a few lines. A file whose header does not end within this limit is not an age file. */
const MAX_HEADER_BYTES = 64 * 1024;
const HEADER_BEGINS = "age-encryption.org/v1\n";
/** The last line of the header, `--- ` with its MAC. */
const HEADER_ENDS = /\n--- [A-Za-z0-9+/]{43}\n/;

/** Thrown for a file that none of the identities can decrypt, or that was changed or truncated. */
export class AgeError extends Error {
  override readonly name = "AgeError";
}

/** Encrypts and decrypts the chunks of one payload: holds its key and the counter that is part of each nonce. */
class Pieces {
  private readonly key: Uint8Array;
  private readonly counter = Buffer.alloc(12);
  private number = 0;

  constructor(fileKey: Uint8Array, nonce: Uint8Array) {
    this.key = new Uint8Array(hkdfSync("sha256", fileKey, nonce, "payload", 32));
  }

  private next(isLast: boolean): Buffer {
    // Eleven bytes for the counter, of which six suffice for any disk, and one that marks the last chunk.
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

  /** @throws {AgeError} if the chunk was changed. */
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

const changed = () => new AgeError("it was changed or truncated after it was written");

/** Splits a stream into chunks of one size. The last one, which may be shorter, is known only after the stream has ended. */
class Cutter {
  private readonly size: number;
  private kept: Buffer[] = [];
  private length = 0;

  constructor(size: number) {
    this.size = size;
  }

  /** Yields the complete chunks that are not the last one. */
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

/** Creates a header for a recipient with age's library. Returns it with the file key. */
async function makeHeader(recipient: string): Promise<{ header: Uint8Array; fileKey: Uint8Array }> {
  let fileKey = new Uint8Array();
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  // A recipient that receives the file key and adds nothing to the header.
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
 * Returns a stream that encrypts for a recipient.
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
      finish(done, async () => {
        pieces ??= await begin(this);
        for (const piece of cutter.add(chunk)) this.push(pieces.seal(piece, false));
      });
    },
    flush(done) {
      finish(done, async () => {
        pieces ??= await begin(this);
        this.push(pieces.seal(cutter.last(), true));
      });
    },
  });
}

/**
 * Returns a stream that decrypts. Its output is authentic, but known to be complete only after the stream has ended without an error.
 * The stream fails with an {@link AgeError} for a wrong identity, a file that is not an age file, and a changed file.
 * @param identities age's private keys, `AGE-SECRET-KEY-1...`; one of them must match.
 */
export function unseal(identities: readonly string[]): Transform {
  const cutter = new Cutter(PIECE_BYTES + TAG_BYTES);
  let head = Buffer.alloc(0);
  let pieces: Pieces | undefined;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      finish(done, async () => {
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
      finish(done, async () => {
        if (pieces === undefined) throw changed();
        this.push(pieces.open(cutter.last(), true));
      });
    },
  });
}

function finish(done: TransformCallback, work: () => Promise<void>): void {
  work().then(
    () => done(),
    (error) => done(error),
  );
}

/** Returns the index after the header, or undefined if the header is not complete yet. */
function endOfHeader(head: Buffer): number | undefined {
  const text = head.subarray(0, MAX_HEADER_BYTES).toString("latin1");
  if (!HEADER_BEGINS.startsWith(text.slice(0, HEADER_BEGINS.length))) throw new AgeError("it is not an age file");
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
      throw new AgeError("it was encrypted for another identity");
    }
    throw changed();
  }
}
