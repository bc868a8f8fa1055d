/**
 * Masks as SQL that the source computes, so a masked value never leaves it. Within one import, the same value has the same mask in
 * every table. Without the key, the value cannot be computed from its mask.
 */
import { createHash, randomBytes } from "node:crypto";
import { ident, literal } from "../../../lib/postgres.ts";
import type { MaskKind } from "../types.ts";

/** A column's properties that a mask depends on. */
export interface MaskedColumn {
  name: string;
  /** With length or precision, as format_type() writes it, quoted and qualified if needed. */
  type: string;
  /** The type without domains and length, as in pg_type: text, int4, uuid, ... */
  base: string;
  /** Whether the base type is a string type (pg_type.typcategory S). */
  isText: boolean;
  /** Limit in characters, if any. */
  maxLength: number | undefined;
  notNull: boolean;
  /** Whether the column is unique, alone or together with others. */
  unique: boolean;
}

/** Session settings that hold the two halves of the key. Statements refer to them by name, so they never contain the key. */
const INNER = "sectorwars.mask_inner";
const OUTER = "sectorwars.mask_outer";
/** Block size of SHA-256 (RFC 2104). */
const BLOCK_BYTES = 64;

/**
 * Returns the masks' key in the two padded forms that HMAC uses.
 * @param secret any text; the same secret produces the same masks in later imports. Without it, the key is random.
 */
export function maskKey(secret: string | undefined): { inner: string; outer: string } {
  const key = Buffer.alloc(BLOCK_BYTES);
  (secret === undefined ? randomBytes(32) : createHash("sha256").update(secret).digest()).copy(key);
  const padded = (pad: number) => Buffer.from(key.map((byte) => byte ^ pad)).toString("hex");
  return { inner: padded(0x36), outer: padded(0x5c) };
}

/** Returns the statement that sets a session's key. The key is a parameter, because logs and statistics keep the statement's text. */
export const setMaskKey = ({ inner, outer }: ReturnType<typeof maskKey>) => ({
  text: `SELECT set_config('${INNER}', $1, false), set_config('${OUTER}', $2, false)`,
  values: [inner, outer],
});

/** Returns SQL for the HMAC-SHA-256 of a value's text with the session's key (RFC 2104), from built-in functions. */
const hmac = (value: string): string => {
  // An uncorrelated subquery is evaluated once, not for every row.
  const half = (name: string) => `(SELECT decode(current_setting('${name}'), 'hex'))`;
  return `sha256(${half(OUTER)} || sha256(${half(INNER)} || convert_to(${value}, 'UTF8')))`;
};

/** Hexadecimal digits that make a mask practically unique: 64 bits. */
const SURE_DIGITS = 16;
const EMAIL_HOST = "@example.com";
/** Letters for hexadecimal digits: syllables of a consonant and a vowel can be pronounced. */
const CONSONANTS = "bdfghjklmnprstvz";
const VOWELS = "aeiouaeiouaeioua";

/** Returns SQL for syllables from the hexadecimal digits of h, starting at a position. */
const syllables = (from: number, count: number): string =>
  Array.from(
    { length: count },
    (_, n) =>
      `substr(translate(h, '0123456789abcdef', '${CONSONANTS}'), ${from + 2 * n}, 1) || ` +
      `substr(translate(h, '0123456789abcdef', '${VOWELS}'), ${from + 2 * n + 1}, 1)`,
  ).join(" || ");

/** Returns why a mask cannot be used on a column; undefined if it can. */
export function maskProblem(kind: MaskKind, column: MaskedColumn): string | undefined {
  const room = column.maxLength ?? Number.POSITIVE_INFINITY;
  switch (kind) {
    case "null":
      return column.notNull ? "the column is NOT NULL; use fixed VALUE or another kind" : undefined;
    case "fixed":
      return column.unique ? "its values must differ from each other; use hash, email or name" : undefined;
    case "email": {
      if (!column.isText)
        return `its type is ${column.type}, and an e-mail address is text; use hash, null or fixed VALUE`;
      const least = EMAIL_HOST.length + 1 + (column.unique ? SURE_DIGITS : 4);
      return room < least
        ? `${room} characters are too few for an e-mail address, which needs ${least}; use hash or fixed VALUE`
        : undefined;
    }
    case "name":
      if (!column.isText) return `its type is ${column.type}, and a name is text; use hash, null or fixed VALUE`;
      return column.unique && room < NAME_LENGTH + 1 + SURE_DIGITS
        ? `${room} characters are too few for names that all differ; use hash`
        : undefined;
    case "text":
      if (!column.isText) return `its type is ${column.type}, and not text; use null or fixed VALUE`;
      return column.unique
        ? "its values must differ from each other, and short masks may not; use hash, email or name"
        : undefined;
    case "hash":
      if (column.isText) {
        return column.unique && room < SURE_DIGITS
          ? `${room} characters are too few for hashes that all differ`
          : undefined;
      }
      if (["uuid", "bytea", "int8"].includes(column.base)) return undefined;
      if (["int4", "int2"].includes(column.base)) {
        return column.unique ? `a hash of type ${column.type} is too short to differ from all others` : undefined;
      }
      return `there is no hash of type ${column.type}; use null or fixed VALUE`;
  }
}

/** Characters of two words of three syllables and a space. */
const NAME_LENGTH = 13;

/** Returns SQL for the masked value, of the column's own type. NULL stays NULL with every kind. */
export function maskSql(kind: MaskKind, column: MaskedColumn, value?: string): string {
  const name = ident(column.name);
  const cast = (expression: string) => `(${expression})::${column.type}`;
  const whenThere = (expression: string) => `CASE WHEN ${name} IS NULL THEN NULL ELSE ${cast(expression)} END`;
  if (kind === "null") return cast("NULL");
  if (kind === "fixed") return whenThere(literal(value ?? ""));
  const digest = hmac(textOf(column));
  const digits = `encode(${digest}, 'hex')`;
  const upTo = (length: number) => Math.min(length, column.maxLength ?? length);
  // OFFSET 0 makes the server compute the digest once for each row.
  const fromDigits = (expression: string) => whenThere(`SELECT ${expression} FROM (SELECT ${digits} AS h OFFSET 0) d`);
  switch (kind) {
    case "email": {
      const room = upTo(1 + 2 * SURE_DIGITS + EMAIL_HOST.length) - EMAIL_HOST.length - 1;
      return whenThere(`'u' || left(${digits}, ${room}) || '${EMAIL_HOST}'`);
    }
    case "name": {
      const words = `initcap(${syllables(1, 3)} || ' ' || ${syllables(7, 3)})`;
      const full = column.unique ? `${words} || ' ' || substr(h, 25, ${SURE_DIGITS})` : words;
      return fromDigits(`left(${full}, ${upTo(NAME_LENGTH + 1 + SURE_DIGITS)})`);
    }
    case "text": {
      const words = `${[1, 9, 17, 25, 33, 41].map((from) => syllables(from, 4)).join(" || ' ' || ")} || ' '`;
      const length = `length(${name}::text)`;
      return fromDigits(`left(repeat(${words}, ${length} / 50 + 1), ${length})`);
    }
    case "hash":
      return whenThere(hashSql(column, digest, digits, upTo(64)));
  }
}

/** Returns SQL for the text that a mask is computed from. Values that the server treats as equal have the same mask. */
function textOf({ name, base }: MaskedColumn): string {
  if (base === "bytea") return `encode(${ident(name)}, 'hex')`;
  return base === "citext" ? `lower(${ident(name)}::text)` : `${ident(name)}::text`;
}

function hashSql({ base }: MaskedColumn, digest: string, digits: string, length: number): string {
  switch (base) {
    case "uuid":
      return `left(${digits}, 32)::uuid`;
    case "bytea":
      return digest;
    // The sign bit is cleared, because keys are usually positive.
    case "int8":
      return `('x' || left(${digits}, 16))::bit(64)::bigint & 9223372036854775807`;
    case "int4":
      return `('x' || left(${digits}, 8))::bit(32)::integer & 2147483647`;
    case "int2":
      return `('x0000' || left(${digits}, 4))::bit(32)::integer & 32767`;
    default:
      return `left(${digits}, ${length})`;
  }
}
