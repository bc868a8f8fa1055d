/** Reads times in ISO 8601. In a module of its own, because the parser of other notations (parse-time.ts) is slow to load. */

/**
 * A time with or without fractions and zone. The " UTC" after an offset comes from Pulumi, which turns a time without quotes in
 * Pulumi.NAME.yaml into "2026-11-22 10:00:00 +0000 UTC".
 */
const ISO = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?(?:(?<=\d) UTC)?$/i;

/** A time, and how it was written. */
export interface IsoTime {
  at: Date;
  /** 2026-11-22 */
  day: string;
  /** 10:00 */
  minute: string;
  /** Whether a zone was given. Without one, the time is in this machine's zone. */
  hasZone: boolean;
}

/**
 * Parses a time; returns undefined for any other notation.
 * @throws {Error} for a date that does not exist.
 */
export function readIso(text: string): IsoTime | undefined {
  const [, day = "", hour, zone = ""] = ISO.exec(text) ?? [];
  if (hour === undefined) return undefined;
  const offset = /^(z|utc)$/i.test(zone)
    ? "Z"
    : zone.replace(/^([+-]\d\d):?(\d\d)?$/, (_all, h, m) => `${h}:${m ?? "00"}`);
  const at = new Date(`${day}T${hour}${offset}`);
  // PostgreSQL's commit times have microseconds, and a Date has milliseconds. Rounded up, so that a recovery to the time of a commit
  // includes that commit.
  if (/\.\d{3}0*[1-9]/.test(hour)) at.setMilliseconds(at.getMilliseconds() + 1);
  // Node reads February 30 as March 2.
  const date = new Date(`${day}T00:00Z`);
  if (Number.isNaN(at.getTime()) || !date.toISOString().startsWith(day))
    throw new Error(`"${text}" is not a valid time`);
  return { at, day, minute: hour.slice(0, 5), hasZone: zone !== "" };
}

/** Whether a text is a time in the past, with a zone or an offset: 2026-11-22T10:00:00Z. */
export function isExactTime(text: string, now: Date): boolean {
  try {
    const found = readIso(text);
    return found?.hasZone === true && found.at <= now;
  } catch {
    return false;
  }
}
