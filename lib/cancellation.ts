/**
 * Whether Pulumi wants the running work to end. A dynamic provider is not told: the SDK answers the engine's Cancel call and
 * does nothing. So the call is seen on its way in, which Node tells on a diagnostics channel. On the first Ctrl-C (SIGINT or
 * SIGTERM to `pulumi up`) the engine calls Cancel and waits for what runs; on the second it also sends SIGINT, and five seconds
 * later SIGKILL. An engine that is killed says nothing: then this process has another parent.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";

/** Node.js manual, "Diagnostics Channel", HTTP/2: a request's headers have come in. */
const CHANNEL = "http2.server.stream.start";
const CANCEL = "/pulumirpc.ResourceProvider/Cancel";
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Milliseconds between two looks at the parent. */
const LOOK_MS = 500;

/** Milliseconds in which the engine may still be told how the work ended. */
const FAREWELL_MS = 200;

/**
 * Does work that can be called off.
 * Behind work that was ended by a signal, this process ends by it.
 * @param work is given the signal, and has to clear up before its promise is settled.
 */
export async function cancellable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const cancel = () => controller.abort();
  let last: NodeJS.Signals | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    last = signal;
    cancel();
  };
  const onCall = (message: unknown) => {
    if ((message as { headers?: Record<string, unknown> }).headers?.[":path"] === CANCEL) cancel();
  };
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid !== parent) onSignal("SIGTERM");
  }, LOOK_MS);
  // With the engine its end of the pipe is gone; a line that nobody reads must not end this process before its work is cleared.
  const onBroken = () => {};
  subscribe(CHANNEL, onCall);
  for (const signal of SIGNALS) process.on(signal, onSignal);
  for (const stream of [process.stdout, process.stderr]) stream.on("error", onBroken);
  try {
    return await work(controller.signal);
  } finally {
    clearInterval(watch);
    unsubscribe(CHANNEL, onCall);
    for (const signal of SIGNALS) process.off(signal, onSignal);
    for (const stream of [process.stdout, process.stderr]) stream.off("error", onBroken);
    // What was only put off is done now: the engine waits for this process to end, or is not there to end it.
    const signal = last;
    if (signal) setTimeout(() => process.kill(process.pid, signal), FAREWELL_MS);
  }
}
