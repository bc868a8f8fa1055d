/** What an update's log of events (`pulumi up --event-log FILE`) says went wrong. Pure. */

/** The part of an event that is read. */
interface Event {
  diagnosticEvent?: { severity: string; message: string };
}

/** The engine's last word about a program or a step, which names no cause. */
const NO_CAUSE = /^(error: )?(update|preview) failed$/;
/** Pulumi's marks for colours: <{%fg 1%}>. */
const COLOURS = /<\{%[^%]*%\}>/g;

/**
 * Reads the errors of an update, each once and in their order, without colours.
 * @param log one event a line, as JSON; a line that is cut off is left out.
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
