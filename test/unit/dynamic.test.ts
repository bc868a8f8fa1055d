import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { diffByFingerprint, inputsFingerprint, providerOnDisk, wrapperCode } from "../../lib/dynamic.ts";

const INPUTS = { host: "127.0.0.1", port: 5433, password: "secret", passwordVersion: 1, list: ["a", "b"] };

const values = fc.dictionary(
  fc.string().filter((key) => key !== "__proto__"),
  fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.array(fc.string())),
);

describe("inputsFingerprint", () => {
  test("is 16 hexadecimal digits", () => {
    expect(inputsFingerprint(INPUTS)).toMatch(/^[0-9a-f]{16}$/);
  });

  test("ignores the password and Pulumi's own inputs", () => {
    fc.assert(
      fc.property(values, fc.string(), fc.string(), (inputs, password, other) => {
        const before = inputsFingerprint({ ...inputs, password });
        expect(inputsFingerprint({ ...inputs, password: other, __provider: "x", fingerprint: "y" })).toBe(before);
      }),
    );
  });

  test("changes with passwordVersion and with every other input", () => {
    const before = inputsFingerprint(INPUTS);
    for (const changed of [
      { ...INPUTS, passwordVersion: 2 },
      { ...INPUTS, port: 5434 },
      { ...INPUTS, port: "5433" },
      { ...INPUTS, list: ["b", "a"] },
      { ...INPUTS, more: "x" },
    ]) {
      expect(inputsFingerprint(changed)).not.toBe(before);
    }
    const { host: _, ...less } = INPUTS;
    expect(inputsFingerprint(less)).not.toBe(before);
  });

  test("is the same in any order of the keys", () => {
    fc.assert(
      fc.property(
        values.chain((inputs) =>
          fc.tuple(
            fc.constant(inputs),
            fc.shuffledSubarray(Object.entries(inputs), { minLength: Object.keys(inputs).length }),
          ),
        ),
        ([inputs, shuffled]) => {
          expect(inputsFingerprint(Object.fromEntries(shuffled))).toBe(inputsFingerprint(inputs));
        },
      ),
    );
  });

  test("distinguishes keys from values", () => {
    expect(inputsFingerprint({ a: "b", c: "d" })).not.toBe(inputsFingerprint({ a: "b,c:d" }));
    expect(inputsFingerprint({ a: "1" })).not.toBe(inputsFingerprint({ "1": "a" }));
  });

  // The engine omits inputs without a value, so a resource could differ from itself at every update.
  test("is the same for an undefined input and a missing one", () => {
    expect(inputsFingerprint({ ...INPUTS, dockerHost: undefined })).toBe(inputsFingerprint(INPUTS));
  });
});

describe("diffByFingerprint", () => {
  test("finds no change if only the password differs", async () => {
    const olds = { fingerprint: inputsFingerprint(INPUTS) };
    expect(await diffByFingerprint("id", olds, { ...INPUTS, password: "new one" })).toEqual({
      changes: false,
      replaces: [],
      deleteBeforeReplace: false,
    });
  });

  test("finds a change, and replaces nothing", async () => {
    const olds = { fingerprint: inputsFingerprint(INPUTS) };
    expect(await diffByFingerprint("id", olds, { ...INPUTS, passwordVersion: 2 })).toEqual({
      changes: true,
      replaces: [],
      deleteBeforeReplace: false,
    });
  });

  test("finds a change in a resource that was never finished", async () => {
    expect((await diffByFingerprint("id", {}, INPUTS)).changes).toBe(true);
  });
});

describe("providerOnDisk", () => {
  let folder: string;
  const write = (name: string, code: string): string => {
    const path = join(folder, name);
    writeFileSync(path, code);
    return relative(process.cwd(), path);
  };
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "provider-on-disk-"));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test("forwards every call to the module's provider", async () => {
    const provider = providerOnDisk(
      write(
        "whole.mjs",
        `const tell = (what) => async (...given) => ({ what, given });
         export const provider = {
           diff: tell("diff"), create: tell("create"), read: tell("read"), update: tell("update"), delete: tell("delete"),
         };`,
      ),
    );
    expect(await provider.diff?.("id", { a: 1 }, { a: 2 })).toEqual({
      what: "diff",
      given: ["id", { a: 1 }, { a: 2 }],
    });
    expect(await provider.create({ a: 1 })).toEqual({ what: "create", given: [{ a: 1 }] });
    expect(await provider.read?.("id", { a: 1 })).toEqual({ what: "read", given: ["id", { a: 1 }] });
    expect(await provider.update?.("id", { a: 1 }, { a: 2 })).toEqual({
      what: "update",
      given: ["id", { a: 1 }, { a: 2 }],
    });
    expect(await provider.delete?.("id", { a: 1 })).toEqual({ what: "delete", given: ["id", { a: 1 }] });
  });

  test("has defaults without changes for calls that the module does not define", async () => {
    const provider = providerOnDisk(
      write("least.mjs", "export const provider = { create: async (outs) => ({ id: 'made', outs }) };"),
    );
    expect(await provider.create({ a: 1 })).toEqual({ id: "made", outs: { a: 1 } });
    expect(await provider.diff?.("id", { a: 1 }, { a: 2 })).toEqual({ changes: false });
    expect(await provider.read?.("id", { a: 1 })).toEqual({ id: "id", props: { a: 1 } });
    expect(await provider.update?.("id", { a: 1 }, { a: 2 })).toEqual({ outs: { a: 1 } });
    expect(await provider.delete?.("id", { a: 1 })).toBeUndefined();
  });

  test("passes on the module's errors", async () => {
    const provider = providerOnDisk(
      write("failing.mjs", "export const provider = { create: async () => { throw new Error('no server'); } };"),
    );
    await expect(provider.create({})).rejects.toThrow(new Error("no server"));
    await expect(providerOnDisk("components/nowhere.ts").create({})).rejects.toThrow(/nowhere\.ts/);
  });

  test("loads the module only when it is called", () => {
    expect(() => providerOnDisk("components/nowhere.ts")).not.toThrow();
  });

  test("is serialised as code that requires only the module and contains no path of this machine", async () => {
    const module = write("told.mjs", "export const provider = { create: async (outs) => ({ id: 'made', outs }) };");
    const code = write("shell.cjs", wrapperCode(module));
    expect(readFileSync(code, "utf8")).not.toContain(process.cwd());
    // Like Pulumi: a separate module, in a process that does not contain the program.
    const script =
      "require(process.argv[1]).handler().create({ a: 1 }).then((made) => console.log(JSON.stringify(made)))";
    const said = execFileSync(process.execPath, ["--eval", script, resolve(code)], { encoding: "utf8" });
    expect(JSON.parse(said)).toEqual({ id: "made", outs: { a: 1 } });
  });
});
