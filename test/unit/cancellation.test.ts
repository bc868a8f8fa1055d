/** Work is cancelled by each way in which Pulumi's engine cancels, and by nothing else. */
import { type ChildProcess, spawn } from "node:child_process";
import { connect, createServer, type ServerHttp2Stream } from "node:http2";
import { afterEach, expect, test } from "vitest";
import { cancellable, untilCancelled } from "../../lib/cancellation.ts";
import { providerOnDisk } from "../../lib/dynamic.ts";
import { pause } from "../../lib/scope.ts";

/** The engine speaks gRPC, which is HTTP/2, to the provider's process. */
async function call(path: string): Promise<void> {
  const server = createServer();
  server.on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200 });
    stream.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = connect(`http://127.0.0.1:${(server.address() as { port: number }).port}`);
  const request = client.request({ ":path": path, ":method": "POST" });
  request.resume();
  request.end();
  await new Promise((resolve) => request.on("close", resolve));
  client.close();
  await new Promise<void>((resolve) => server.close(() => resolve()));
}

test("the engine's Cancel call aborts the signal", async () => {
  const aborted = await cancellable(async (signal) => {
    await call("/pulumirpc.ResourceProvider/Cancel");
    return signal.aborted;
  });
  expect(aborted).toBe(true);
});

test("the Cancel call ends all running work: errors keep their explanation, and a lost connection is reported as a stop", async () => {
  const CANCELLED = "/pulumirpc.ResourceProvider/Cancel";
  const waiting = untilCancelled(() => pause(60_000));
  const explaining = untilCancelled(() =>
    pause(60_000).catch(() => {
      throw new Error("all of it was taken back");
    }),
  );
  const losing = untilCancelled(async () => {
    await pause(60_000).catch(() => {});
    throw new Error("Connection terminated unexpectedly");
  });
  const finishing = untilCancelled(async () => {
    await pause(60_000).catch(() => {});
    return "done";
  });
  const all = Promise.allSettled([waiting, explaining, losing, finishing]);
  await call(CANCELLED);
  const said = (await all).map((end) => (end.status === "rejected" ? (end.reason as Error).message : end.value));
  const stopped = "It was stopped. Run it again to continue.";
  expect(said).toEqual([stopped, "all of it was taken back", stopped, "done"]);
});

test("the Cancel call ends what a resource's provider waits for", async () => {
  const provider = providerOnDisk("test/support/waiting-provider.ts");
  const expected = expect(provider.create({})).rejects.toThrow("It was stopped");
  // The provider has started once the process listens to signals.
  while (process.listenerCount("SIGHUP") === 0) await pause(10);
  await call("/pulumirpc.ResourceProvider/Cancel");
  await expected;
});

test("no other call aborts the signal, and neither does a Cancel call after the work", async () => {
  let kept: AbortSignal | undefined;
  const aborted = await cancellable(async (signal) => {
    kept = signal;
    await call("/pulumirpc.ResourceProvider/Check");
    return signal.aborted;
  });
  await call("/pulumirpc.ResourceProvider/Cancel");
  expect([aborted, kept?.aborted]).toEqual([false, false]);
});

test("no signal listener is left, even after a failure", async () => {
  const listeners = () => ["SIGINT", "SIGTERM", "SIGHUP"].map((signal) => process.listenerCount(signal));
  const before = listeners();
  await expect(cancellable(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(listeners()).toEqual(before);
});

/** Reports whether it was cancelled, and needs 200 ms to clean up. */
const WORKER = `
  import { cancellable } from "./lib/cancellation.ts";
  import { setTimeout as sleep } from "node:timers/promises";
  await cancellable(async (signal) => {
    const over = new Promise((resolve) => signal.addEventListener("abort", resolve));
    console.log("working " + process.pid);
    await Promise.race([over, sleep(20000, undefined, { ref: false })]);
    await sleep(200);
    console.error(signal.aborted ? "cleared" : "never told");
  });
  // As a provider, which serves until it is ended.
  setInterval(() => {}, 1000);`;

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

function start(command: string, args: string[]) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let said = "";
  const { promise: working, resolve } = Promise.withResolvers<void>();
  child.stdout.once("data", () => resolve());
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = new Promise<string>((done) => child.stderr.once("close", () => done(said)));
  return { child, working, ended };
}

const ARGUMENTS = ["--input-type=module-typescript", "-e", WORKER];

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
  "%s aborts the signal, and ends the process after the cleanup",
  async (signal) => {
    const { child, working, ended } = start(process.execPath, ARGUMENTS);
    await working;
    child.kill(signal);
    child.kill(signal);
    const exit = new Promise((resolve) => child.once("exit", (_code, by) => resolve(by)));
    expect(await ended).toContain("cleared");
    // The engine waits for the process to exit by the signal.
    expect(await exit).toBe(signal);
  },
);

test("the death of the engine, which breaks its pipes, aborts the signal, and the cleanup runs", async () => {
  // The shell stays the parent: it waits for its child.
  const { child, working, ended } = start("sh", ["-c", '"$0" "$@" & wait', process.execPath, ...ARGUMENTS]);
  await working;
  child.stdout.destroy();
  child.kill("SIGKILL");
  expect(await ended).toContain("cleared");
});
