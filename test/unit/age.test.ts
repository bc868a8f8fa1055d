import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgeError, seal, unseal } from "../../lib/age.ts";
import { readIdentity, readOrMakeIdentity } from "../../lib/identity.ts";

let secret: string;
let recipient: string;

beforeAll(async () => {
  secret = await generateX25519Identity();
  recipient = await identityToRecipient(secret);
});

/** The same bytes in chunks of the given size. */
const chunked = (bytes: Buffer, size: number) =>
  Readable.from(
    Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size)),
  );
const sealed = (bytes: Buffer, size = 50_000) => buffer(chunked(bytes, size).compose(seal(recipient)));
const unsealed = (bytes: Buffer, size = 50_000, key = secret) => buffer(chunked(bytes, size).compose(unseal([key])));

/** Sizes around age's chunk size (65,536 bytes), where an off-by-one error shows. */
const SIZES = [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000];

describe("age encryption", () => {
  test.each(SIZES)(
    "writes what the age-encryption library decrypts, and decrypts what that library wrote (%i bytes)",
    async (size) => {
      const bytes = randomBytes(size);
      const decrypter = new Decrypter();
      decrypter.addIdentity(secret);
      expect(Buffer.from(await decrypter.decrypt(await sealed(bytes))).equals(bytes)).toBe(true);

      const encrypter = new Encrypter();
      encrypter.addRecipient(recipient);
      expect((await unsealed(Buffer.from(await encrypter.encrypt(bytes)))).equals(bytes)).toBe(true);
    },
  );

  test("returns the original bytes, whatever the sizes of the chunks that are written and read", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 150_000 }),
        fc.integer({ min: 1, max: 140_000 }),
        fc.integer({ min: 20, max: 140_000 }),
        async (length, written, read) => {
          const bytes = randomBytes(length);
          expect((await unsealed(await sealed(bytes, written + 100), read)).equals(bytes)).toBe(true);
        },
      ),
      { numRuns: 15 },
    );
  });

  test("encrypts the same bytes differently each time", async () => {
    const bytes = randomBytes(100);
    expect((await sealed(bytes)).equals(await sealed(bytes))).toBe(false);
  });
});

describe("age decryption", () => {
  test("rejects a file in which any one bit was changed", async () => {
    const whole = await sealed(randomBytes(140_000));
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(7), async (at, bit) => {
        const changed = Buffer.from(whole);
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        await expect(unsealed(changed)).rejects.toBeInstanceOf(AgeError);
      }),
      { numRuns: 60 },
    );
  });

  test("rejects a file that was truncated, also between two chunks, or lengthened", async () => {
    const whole = await sealed(randomBytes(140_000));
    const header = whole.indexOf("\n--- ") + 49 + 16;
    const piece = 65_536 + 16;
    for (const length of [
      0,
      10,
      header - 20,
      header,
      header + 5,
      header + piece,
      header + 2 * piece,
      whole.length - 1,
    ]) {
      await expect(unsealed(whole.subarray(0, length)), `${length} bytes`).rejects.toThrow("changed or truncated");
    }
    await expect(unsealed(Buffer.concat([whole, Buffer.from("x")]))).rejects.toThrow("changed or truncated");
    // An empty last chunk would be a second encoding of the same data, which age never writes, so it is rejected.
    await expect(unsealed(whole.subarray(0, header + 16))).rejects.toThrow("changed or truncated");
  });

  test("reports a file for another identity, and a file that is not an age file", async () => {
    const other = await generateX25519Identity();
    await expect(unsealed(await sealed(randomBytes(10)), 1000, other)).rejects.toThrow(
      "it was encrypted for another identity",
    );
    await expect(unsealed(Buffer.from("PGDMP and so on, and on, and on"))).rejects.toThrow("it is not an age file");
  });
});

describe("the age identity file", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sectorwars-identity-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test("is created once, readable by its owner alone, even by three callers at the same time", async () => {
    const file = join(folder, "deep", "down", "identity.txt");
    const made: string[] = [];
    const all = await Promise.all([1, 2, 3].map(() => readOrMakeIdentity(file, (told) => made.push(told))));
    expect(new Set(all.map((identity) => identity.secret)).size).toBe(1);
    expect(made).toEqual([all[0]?.recipient]);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder, "deep", "down"))).mode & 0o777).toBe(0o700);
    expect(await readOrMakeIdentity(file, () => made.push("again"))).toEqual(all[0]);
    expect(made).toHaveLength(1);
    expect(await readFile(file, "utf8")).toContain(`# public key: ${all[0]?.recipient}\n`);
  });

  test("reads as undefined if it does not exist, and is refused if other users can read it or it contains no identity", async () => {
    const file = join(folder, "identity.txt");
    expect(await readIdentity(file)).toBeUndefined();
    await writeFile(file, "nothing of the kind\n", { mode: 0o600 });
    await expect(readIdentity(file)).rejects.toThrow(`${file} contains no age identity`);
    await writeFile(file, `${secret}\n`);
    expect(await readIdentity(file)).toEqual({ secret, recipient });
    const open = join(folder, "open.txt");
    await writeFile(open, `${secret}\n`, { mode: 0o644 });
    const refusal = await readIdentity(open).catch((error: Error) => error.message);
    expect(refusal).toBe(
      `Other users can read the identity file ${open}, which decrypts every safety copy. Run: chmod 600 ${open}`,
    );
  });
});
