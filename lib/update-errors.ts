/** Reads the errors from an update's event log (`pulumi up --event-log FILE`). Pure. */

/** The part of an event that this module reads. */
interface Event {
  diagnosticEvent?: { severity: string; message: string };
}

/** The engine's final error about a program or a step, which names no cause. */
const NO_CAUSE = /^(error: )?(update|preview) failed$/;
/** Pulumi's colour tags: <{%fg 1%}>. */
const COLOURS = /<\{%[^%]*%\}>/g;

/**
 * Returns the errors of an update in their order, without duplicates and colours.
 * @param log one JSON event per line; an incomplete line is ignored.
 */
export function updateErrors(log: string): string[] {
  const messages = log.split("\n").flatMap((line) => {
    const { severity, message = "" } = parse(line)?.diagnosticEvent ?? {};
    return severity === "error" ? [message.replaceAll(COLOURS, "").trim()] : [];
  });
  return [...new Set(messages)].filter((message) => message !== "" && !NO_CAUSE.test(message));
}

function parse(line: string): Event | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
