/** Masks the values of an environment in the output of an application. Pure. */

/** Shorter values are not masked: masking them would make a text unreadable, and secrets are longer. */
const SHORTEST = 6;
const SECRET_NAME = /secret|key|token|pass|pwd|credential|auth|salt|private|cookie|session|dsn|cert|encrypt|hash/i;
/** Numbers, words and paths that are no secrets: development, info, /app, 127.0.0.1. */
const PLAIN_VALUE = /^(?:[a-z_]{1,24}|[A-Z_]{1,24}|[\d.:]{1,24}|\.?(?:\/[\w.-]+){1,8}\/?)$/;
const MASK = "***";

/** Returns the password of a URL, as written and decoded. */
function passwordsIn(value: string): string[] {
  const written = /^[a-z][\w+.-]*:\/\/[^/\s@]*?:([^\s]*)@/i.exec(value)?.[1];
  if (written === undefined) return [];
  try {
    return [written, decodeURIComponent(written)];
  } catch {
    return [written];
  }
}

/** Returns the forms in which a program may print a value: unchanged, line by line, escaped, percent-encoded. */
function formsOf(value: string): string[] {
  return [value, ...value.split(/\r?\n/), JSON.stringify(value).slice(1, -1), encodeURIComponent(value)];
}

/** Returns the values of an environment that may be secrets. For a URL with a password, that is the password. */
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

/** Masks values in a text. The longest come first, because one may be a part of another. */
export const masked = (text: string, values: readonly string[]): string =>
  values.reduce((result, value) => result.replaceAll(value, MASK), text);
