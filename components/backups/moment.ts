/** Moments as people write them. One that can be understood in two ways is asked for again, never guessed. */
import * as chrono from "chrono-node";
import { readIso } from "./exact-moment.ts";

/** Day and month in an order that differs between countries. */
const NUMBERS = /^(\d{1,2})([/.-])(\d{1,2})\2\d{2,4}\b/;
/** How a moment ends that says its zone by a number, or needs none. Names of zones are worth nothing: CST is three of them. */
const CLEAR_END = /(\b(ago|earlier|before|back|now|UTC|GMT)|Z|\d)$/i;
/** By how much clocks are set, milliseconds: an hour, and half of one on Lord Howe Island. */
const STEPS = [-60, -30, 30, 60].map((minutes) => minutes * 60_000);

/**
 * Reads a time as people write it ("2026-11-22 10:00", "10 minutes ago", "yesterday 18:00"). A time without a zone is one of this
 * machine's.
 * @throws {Error} for what is no moment, or may be one of two.
 */
export function parseMoment(text: string, now: Date): Date {
  const wanted = text.trim();
  return isoTime(wanted) ?? wordsTime(wanted, now);
}

function isoTime(text: string): Date | undefined {
  const found = readIso(text);
  if (found === undefined || found.hasZone) return found?.at;
  return onlyOne(text, found.at, `${found.day} ${found.minute}`);
}

function wordsTime(text: string, now: Date): Date {
  const [, first, sign, second] = NUMBERS.exec(text) ?? [];
  if (first !== second && Number(first) <= 12 && Number(second) <= 12) {
    throw new Error(`"${text}" may name two days (${first}${sign}${second}). Write it as 2026-11-22 10:00`);
  }
  const [found, ...more] = chrono.parse(text, { instant: now });
  // A time that was understood in part is a time that was misunderstood.
  if (found === undefined || more.length > 0 || found.end || found.text.length !== text.length) {
    throw new Error(
      `"${text}" is no time. Write, for instance, "2026-11-22 10:00", "2026-11-22 10:00 UTC", "10 minutes ago", ` +
        `"yesterday 18:00", latest, or a backup's label (./db backup --list)`,
    );
  }
  const { start } = found;
  if (!start.isCertain("hour")) throw new Error(`"${text}" is a day; say the time too: "${text} 18:00"`);
  if (start.isCertain("timezoneOffset")) {
    if (CLEAR_END.test(text)) return start.date();
    throw new Error(`"${text}" names a zone, and names stand for several. Write UTC, or the offset: +02:00`);
  }
  const [year, month, day, hour, minute] = (["year", "month", "day", "hour", "minute"] as const).map((part) =>
    String(start.get(part) ?? 0).padStart(2, "0"),
  );
  return onlyOne(text, start.date(), `${year}-${month}-${day} ${hour}:${minute}`);
}

/** A moment's digits on this machine's clock: 2026-11-22 10:00. */
const onClock = (at: Date): string => at.toLocaleString("sv-SE").slice(0, 16);

/** What a clock here is ahead of UTC at a moment: +02:00. */
function offsetAt(at: Date): string {
  const minutes = -at.getTimezoneOffset();
  const two = (n: number) => String(Math.trunc(Math.abs(n))).padStart(2, "0");
  return `${minutes < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}

/**
 * The moment, where clocks here showed its digits once.
 * @throws {Error} where they did so twice or never, because they were set back or forward.
 */
function onlyOne(text: string, at: Date, digits: string): Date {
  if (onClock(at) !== digits) {
    throw new Error(`"${text}" was never: clocks here were set forward over it. Write a time before or after that`);
  }
  const twin = STEPS.map((step) => new Date(at.getTime() + step)).find((other) => onClock(other) === digits);
  if (twin === undefined) return at;
  const both = [at, twin].sort((a, b) => a.getTime() - b.getTime()).map((one) => `"${digits} ${offsetAt(one)}"`);
  throw new Error(`"${text}" was twice: clocks here were set back over it. Say which: ${both.join(", or later ")}`);
}
