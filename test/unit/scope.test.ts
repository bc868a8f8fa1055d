/** What is opened inside a scope ends with it. */
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { connect } from "../../lib/postgres.ts";
import { currentScope, outsideScopes, pause, Scope } from "../../lib/scope.ts";

const stopped = new Error("stopped");

/** Work that would go on for long is cut short, with the scope's own reason. */
async function expectCutShort(work: () => Promise<unknown>): Promise<void> {
  const scope = new Scope();
  const begun = performance.now();
  setTimeout(() => scope.close(stopped), 50);
  await expect(scope.run(work)).rejects.toBe(stopped);
  expect(performance.now() - begun).toBeLessThan(5000);
}

test("a pause", () => expectCutShort(() => pause(60_000)));

test("attempts to connect to a closed port", () =>
  expectCutShort(() =>
    connect({ host: "127.0.0.1", port: 1, database: "none", user: "none", password: "" }, { patienceMs: 60_000 }),
  ));

test("a connection to a server that never answers", async () => {
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

test("a docker command", () => expectCutShort(() => docker(["events", "--filter", "container=none"])));

test("once closed, nothing begins any more; the first reason stays", async () => {
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

test("what was forgotten, or is the exception, is left alone", () => {
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

test("reaches as deep as calls do, but not what runs outside on purpose", async () => {
  const scope = new Scope();
  await scope.run(async () => {
    await pause(1);
    expect(currentScope()).toBe(scope);
    await outsideScopes(async () => expect(currentScope()).toBeUndefined());
    expect(currentScope()).toBe(scope);
  });
  expect(currentScope()).toBeUndefined();
});
