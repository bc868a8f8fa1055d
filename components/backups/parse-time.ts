/** Parses times as people write them. An ambiguous time is an error. */
import * as chrono from "chrono-node";
import { readIso } from "./iso-time.ts";

/** A numeric date. The order of day and month differs between countries. */
const NUMBERS = /^(\d{1,2})([/.-])(\d{1,2})\2\d{2,4}\b/;
/** The end of a time with a numeric zone, or without need of one. Names of zones are ambiguous: CST stands for three. */
const CLEAR_END = /(\b(ago|earlier|before|back|now|UTC|GMT)|Z|\d)$/i;
/** Daylight saving shifts in milliseconds: an hour, and half an hour on Lord Howe Island. */
const STEPS = [-60, -30, 30, 60].map((minutes) => minutes * 60_000);

/**
 * Parses a time such as "2026-11-22 10:00", "10 minutes ago" or "yesterday 18:00". A time without a zone is in this machine's zone.
 * @throws {Error} for a text that is not a time, or is ambiguous.
 */
export function parseTime(text: string, now: Date): Date {
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
    throw new Error(`"${text}" is ambiguous: ${first}${sign}${second} may be two days. Write it as 2026-11-22 10:00`);
  }
  const [found, ...more] = chrono.parse(text, { instant: now });
  // If chrono understood only a part of the text, the result may be wrong.
  if (found === undefined || more.length > 0 || found.end || found.text.length !== text.length) {
    throw new Error(
      `"${text}" is not a valid time. Write, for instance, "2026-11-22 10:00", "2026-11-22 10:00 UTC", "10 minutes ago", ` +
        `"yesterday 18:00", latest, or a backup's label (./db backup --list)`,
    );
  }
  const { start } = found;
  if (!start.isCertain("hour")) throw new Error(`"${text}" has no time of day. Add it: "${text} 18:00"`);
  if (start.isCertain("timezoneOffset")) {
    if (CLEAR_END.test(text)) return start.date();
    throw new Error(`"${text}" is ambiguous: the name of its zone stands for several. Write UTC or an offset: +02:00`);
  }
  const [year, month, day, hour, minute] = (["year", "month", "day", "hour", "minute"] as const).map((part) =>
    String(start.get(part) ?? 0).padStart(2, "0"),
  );
  return onlyOne(text, start.date(), `${year}-${month}-${day} ${hour}:${minute}`);
}

/** Formats a time in this machine's zone: 2026-11-22 10:00. */
const onClock = (at: Date): string => at.toLocaleString("sv-SE").slice(0, 16);

/** Returns the offset of this machine's zone at a time: +02:00. */
function offsetAt(at: Date): string {
  const minutes = -at.getTimezoneOffset();
  const two = (n: number) => String(Math.trunc(Math.abs(n))).padStart(2, "0");
  return `${minutes < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}

/**
 * Returns the time if its digits occurred exactly once in this machine's zone.
 * @throws {Error} if they occurred twice or never, because of daylight saving.
 */
function onlyOne(text: string, at: Date, digits: string): Date {
  if (onClock(at) !== digits) {
    throw new Error(
      `"${text}" does not exist: clocks in this machine's zone were set forward past it. Write an earlier or a later time`,
    );
  }
  const twin = STEPS.map((step) => new Date(at.getTime() + step)).find((other) => onClock(other) === digits);
  if (twin === undefined) return at;
  const both = [at, twin].sort((a, b) => a.getTime() - b.getTime()).map((one) => `"${digits} ${offsetAt(one)}"`);
  throw new Error(
    `"${text}" is ambiguous: clocks in this machine's zone were set back, so it occurred twice. Write ${both.join(" or, for the later one, ")}`,
  );
}
