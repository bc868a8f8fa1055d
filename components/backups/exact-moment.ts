/** Moments as machines write them. Apart from those of people, whose reader takes a while to load. */

/**
 * With fractions, and with or without a zone. What stands behind an offset is Pulumi's: of a time without quotes in Pulumi.NAME.yaml it
 * makes "2026-11-22 10:00:00 +0000 UTC".
 */
const ISO = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?(?:(?<=\d) UTC)?$/i;

/** A moment, and how it was written. */
export interface IsoMoment {
  at: Date;
  /** 2026-11-22 */
  day: string;
  /** 10:00 */
  minute: string;
  /** Without a zone it is one of this machine's. */
  hasZone: boolean;
}

/**
 * Reads a moment; undefined for what is written in another way.
 * @throws {Error} for a day that is not in the calendar.
 */
export function readIso(text: string): IsoMoment | undefined {
  const [, day = "", hour, zone = ""] = ISO.exec(text) ?? [];
  if (hour === undefined) return undefined;
  const offset = /^(z|utc)$/i.test(zone)
    ? "Z"
    : zone.replace(/^([+-]\d\d):?(\d\d)?$/, (_all, h, m) => `${h}:${m ?? "00"}`);
  const at = new Date(`${day}T${hour}${offset}`);
  // A transaction's own time has microseconds: it is in what is recovered up to it, so what is cut off counts as one more.
  if (/\.\d{3}0*[1-9]/.test(hour)) at.setMilliseconds(at.getMilliseconds() + 1);
  // Node takes the 30th of February for the 2nd of March.
  const date = new Date(`${day}T00:00Z`);
  if (Number.isNaN(at.getTime()) || !date.toISOString().startsWith(day)) throw new Error(`"${text}" is no time`);
  return { at, day, minute: hour.slice(0, 5), hasZone: zone !== "" };
}

/** Whether a text names a moment that is over, and the same one on every machine: 2026-11-22T10:00:00Z, or with an offset. */
export function isExactMoment(text: string, now: Date): boolean {
  try {
    const found = readIso(text);
    return found?.hasZone === true && found.at <= now;
  } catch {
    return false;
  }
}
