/** Keeps the values of an environment out of what an application printed. Pure. */

/** Shorter values are left: masking them would make a text unreadable, and no secret is as short. */
const SHORTEST = 6;
const SECRET_NAME = /secret|key|token|pass|pwd|credential|auth|salt|private|cookie|session|dsn|cert|encrypt|hash/i;
/** Numbers, words and paths that say how an application runs: development, info, /app, 127.0.0.1. */
const PLAIN_VALUE = /^(?:[a-z_]{1,24}|[A-Z_]{1,24}|[\d.:]{1,24}|\.?(?:\/[\w.-]+){1,8}\/?)$/;
const MASK = "***";

/** The password of a URL, as it is written there and as it is meant. */
function passwordsIn(value: string): string[] {
  const written = /^[a-z][\w+.-]*:\/\/[^/\s@]*?:([^\s]*)@/i.exec(value)?.[1];
  if (written === undefined) return [];
  try {
    return [written, decodeURIComponent(written)];
  } catch {
    return [written];
  }
}

/** The forms in which a program may print a value: as it is, line by line, escaped, percent-encoded. */
function formsOf(value: string): string[] {
  return [value, ...value.split(/\r?\n/), JSON.stringify(value).slice(1, -1), encodeURIComponent(value)];
}

/** The values of an environment that may be secrets. Of a URL with a password, it is the password. */
export function secretValues(environment: Readonly<Record<string, string>>): string[] {
  const values = Object.entries(environment).flatMap(([name, value]) => {
    const passwords = passwordsIn(value);
    if (passwords.length > 0) return passwords;
    return PLAIN_VALUE.test(value) && !SECRET_NAME.test(name) ? [] : formsOf(value);
  });
  return [...new Set(values.map((value) => value.trim()))]
    .filter((value) => value.length >= SHORTEST)
    .sort((a, b) => b.length - a.length);
}

/** Replaces values in a text. The longest come first, since one may be a part of another. */
export const masked = (text: string, values: readonly string[]): string =>
  values.reduce((result, value) => result.replaceAll(value, MASK), text);
