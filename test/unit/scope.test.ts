/** Everything that is opened inside a scope ends with the scope. */
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { connect } from "../../lib/postgres.ts";
import { currentScope, outsideScopes, pause, Scope } from "../../lib/scope.ts";

const stopped = new Error("stopped");

/** Expects that closing a scope ends long work within 5 s, with the reason that the scope was closed with. */
async function expectCutShort(work: () => Promise<unknown>): Promise<void> {
  const scope = new Scope();
  const begun = performance.now();
  setTimeout(() => scope.close(stopped), 50);
  await expect(scope.run(work)).rejects.toBe(stopped);
  expect(performance.now() - begun).toBeLessThan(5000);
}

test("closing a scope ends a pause", () => expectCutShort(() => pause(60_000)));

test("closing a scope ends attempts to connect to a closed port", () =>
  expectCutShort(() =>
    connect({ host: "127.0.0.1", port: 1, database: "none", user: "none", password: "" }, { patienceMs: 60_000 }),
  ));

test("closing a scope ends a connection to a server that never answers", async () => {
  const mute = createServer();
  await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
  const { port } = mute.address() as { port: number };
  try {
    await expectCutShort(() =>
      connect(
        { host: "127.0.0.1", port, database: "none", user: "none", password: "" },
        { patienceMs: 60_000, attemptMs: 60_000 },
      ),
    );
  } finally {
    mute.close();
  }
});

test("closing a scope ends a docker command", () =>
  expectCutShort(() => docker(["events", "--filter", "container=none"])));

test("a closed scope starts no work, and rejects with its first reason", async () => {
  const scope = new Scope();
  scope.close(stopped);
  scope.close(new Error("later"));
  await expect(scope.run(() => docker(["version"]))).rejects.toBe(stopped);
  await expect(scope.run(() => pause(1))).rejects.toBe(stopped);
  let ended = false;
  scope.add(() => {
    ended = true;
  });
  expect(ended).toBe(true);
});

test("a scope does not end work that was removed, and endAllBut leaves its exception until the close", () => {
  const scope = new Scope();
  const ended: string[] = [];
  const keeper = {};
  scope.add(() => ended.push("one"));
  scope.add(() => ended.push("forgotten"))();
  scope.add(() => ended.push("keeper"), keeper);
  scope.endAllBut(keeper);
  expect(ended).toEqual(["one"]);
  scope.close(stopped);
  expect(ended).toEqual(["one", "keeper"]);
});

test("a scope applies to nested calls, but not to work in outsideScopes", async () => {
  const scope = new Scope();
  await scope.run(async () => {
    await pause(1);
    expect(currentScope()).toBe(scope);
    await outsideScopes(async () => expect(currentScope()).toBeUndefined());
    expect(currentScope()).toBe(scope);
  });
  expect(currentScope()).toBeUndefined();
});
