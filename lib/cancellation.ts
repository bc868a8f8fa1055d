/**
 * Whether Pulumi wants the running work to end. A dynamic provider is not told: the SDK answers the engine's Cancel call and
 * does nothing. So the call is seen on its way in, which Node tells on a diagnostics channel. On the first Ctrl-C (SIGINT or
 * SIGTERM to `pulumi up`) the engine calls Cancel and waits for what runs; on the second it also sends SIGINT, and five seconds
 * later SIGKILL. An engine that is killed says nothing: then this process has another parent.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { isPassing } from "./postgres.ts";
import { Scope } from "./scope.ts";

/** Node.js manual, "Diagnostics Channel", HTTP/2: a request's headers have come in. */
const CHANNEL = "http2.server.stream.start";
const CANCEL = "/pulumirpc.ResourceProvider/Cancel";
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Milliseconds between two looks at the parent. */
const LOOK_MS = 500;

/** Milliseconds in which the engine may still be told how the work ended. */
const FAREWELL_MS = 200;

/** Work under way. One process serves many resources at the same time, and listens once for all of them. */
const underWay = new Set<AbortController>();
let parent = process.ppid;
let watch: NodeJS.Timeout | undefined;
let lastSignal: NodeJS.Signals | undefined;

function cancelAll(): void {
  for (const controller of underWay) controller.abort();
}

function onSignal(signal: NodeJS.Signals): void {
  lastSignal = signal;
  cancelAll();
}

function onCall(message: unknown): void {
  if ((message as { headers?: Record<string, unknown> }).headers?.[":path"] === CANCEL) cancelAll();
}

/** With the engine its end of the pipe is gone; a line that nobody reads must not end this process before its work is cleared. */
function onBroken(): void {}

function listen(): void {
  lastSignal = undefined;
  parent = process.ppid;
  watch = setInterval(() => {
    if (process.ppid !== parent) onSignal("SIGTERM");
  }, LOOK_MS);
  subscribe(CHANNEL, onCall);
  for (const signal of SIGNALS) process.on(signal, onSignal);
  for (const stream of [process.stdout, process.stderr]) stream.on("error", onBroken);
}

function stopListening(): void {
  clearInterval(watch);
  unsubscribe(CHANNEL, onCall);
  for (const signal of SIGNALS) process.off(signal, onSignal);
  for (const stream of [process.stdout, process.stderr]) stream.off("error", onBroken);
  // What was only put off is done now: the engine waits for this process to end, or is not there to end it.
  const signal = lastSignal;
  if (signal) setTimeout(() => process.kill(process.pid, signal), FAREWELL_MS);
}

/**
 * Does work that can be called off.
 * Behind work that was ended by a signal, this process ends by it, once nothing else that can be called off is under way.
 * @param work is given the signal, and has to clear up before its promise is settled.
 */
export async function cancellable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  if (underWay.size === 0) listen();
  underWay.add(controller);
  try {
    return await work(controller.signal);
  } finally {
    underWay.delete(controller);
    if (underWay.size === 0) stopListening();
  }
}

/**
 * Does work in a scope that closes when it is called off: its connections, docker commands and pauses end at once.
 * @throws {Error} that says so, in place of what a connection makes of being ended; what the work itself has to say counts more.
 */
export function untilCancelled<T>(work: () => Promise<T>): Promise<T> {
  return cancellable(async (signal) => {
    const scope = new Scope();
    signal.addEventListener("abort", () => scope.close(new Error("It was stopped; run it again to go on.")));
    try {
      return await scope.run(work);
    } catch (error) {
      throw scope.reason && isPassing(error) ? scope.reason : error;
    }
  });
}
