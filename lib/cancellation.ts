/**
 * Detects that Pulumi cancels the running operation. The SDK answers the engine's Cancel call, but does not pass it on to a dynamic
 * provider. So this module observes the call on a diagnostics channel of Node.js. On the first Ctrl-C (SIGINT or SIGTERM to
 * `pulumi up`), the engine calls Cancel and waits for running operations; on the second, it also sends SIGINT, and SIGKILL five seconds
 * later. A killed engine sends nothing, but then the parent of this process changes.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { isPassing } from "./postgres.ts";
import { Scope } from "./scope.ts";
import { printable, protectTerminal } from "./terminal.ts";

/** Published when the headers of a request have arrived (Node.js manual, "Diagnostics Channel", HTTP/2). */
const CHANNEL = "http2.server.stream.start";
const CANCEL = "/pulumirpc.ResourceProvider/Cancel";
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Milliseconds between two checks of the parent process. */
const POLL_MS = 500;

/** Milliseconds before this process ends, during which the SDK can still report the result to the engine. */
const EXIT_DELAY_MS = 200;

/** Running operations. One process serves many resources at the same time, with one set of listeners for all. */
const running = new Set<AbortController>();
let parent = process.ppid;
let watch: NodeJS.Timeout | undefined;
let lastSignal: NodeJS.Signals | undefined;

function cancelAll(): void {
  for (const controller of running) controller.abort();
}

function onSignal(signal: NodeJS.Signals): void {
  lastSignal = signal;
  cancelAll();
}

function onCall(message: unknown): void {
  if ((message as { headers?: Record<string, unknown> }).headers?.[":path"] === CANCEL) cancelAll();
}

/** Without the engine the pipe is closed. Writing to it must not end this process before the operation has cleaned up. */
function onBroken(): void {}

function listen(): void {
  lastSignal = undefined;
  parent = process.ppid;
  watch = setInterval(() => {
    if (process.ppid !== parent) onSignal("SIGTERM");
  }, POLL_MS);
  subscribe(CHANNEL, onCall);
  for (const signal of SIGNALS) process.on(signal, onSignal);
  for (const stream of [process.stdout, process.stderr]) stream.on("error", onBroken);
}

function stopListening(): void {
  clearInterval(watch);
  unsubscribe(CHANNEL, onCall);
  for (const signal of SIGNALS) process.off(signal, onSignal);
  for (const stream of [process.stdout, process.stderr]) stream.off("error", onBroken);
  // The signal was only deferred: the engine waits for this process to end, or no longer exists.
  const signal = lastSignal;
  if (signal) setTimeout(() => process.kill(process.pid, signal), EXIT_DELAY_MS);
}

/**
 * Runs work that can be cancelled.
 * If a signal cancelled it, this process ends by that signal after the last running operation.
 * @param work gets the abort signal, and must clean up before its promise is settled.
 */
export async function cancellable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  if (running.size === 0) listen();
  running.add(controller);
  try {
    return await work(controller.signal);
  } finally {
    running.delete(controller);
    if (running.size === 0) stopListening();
  }
}

/**
 * Runs work in a scope that is closed on cancellation: its connections, docker commands and pauses end at once. What it writes, and the
 * message of its error, cannot control the terminal: both may contain text from a database.
 * @throws {Error} that says that the work was stopped, in place of a connection error; other errors of the work are passed on.
 */
export function untilCancelled<T>(work: () => Promise<T>): Promise<T> {
  protectTerminal();
  return cancellable(async (signal) => {
    const scope = new Scope();
    signal.addEventListener("abort", () => scope.close(new Error("It was stopped. Run it again to continue.")));
    try {
      return await scope.run(work);
    } catch (error) {
      if (error instanceof Error) error.message = printable(error.message);
      throw scope.reason && isPassing(error) ? scope.reason : error;
    }
  });
}
