/**
 * Masks as SQL, computed by the source: a value that is masked never leaves it. The same value has the same mask wherever it
 * stands, in this import; from one mask nobody gets back to the value without the key.
 */
import { createHash, randomBytes } from "node:crypto";
import { ident, literal } from "../../lib/postgres.ts";
import type { MaskKind } from "./selection-settings.ts";

/** What must be known of a column to mask it. */
export interface MaskedColumn {
  name: string;
  /** With length or precision, as format_type() writes it, quoted and qualified where needed. */
  type: string;
  /** The type without domains and length, as pg_type has it: text, int4, uuid, ... */
  base: string;
  /** Whether the base type is one of text's kind (pg_type.typcategory S). */
  isText: boolean;
  /** Characters that fit, where that is limited. */
  maxLength: number | undefined;
  notNull: boolean;
  /** Whether two rows must not have the same value, alone or together with other columns. */
  unique: boolean;
}

/** Settings of the session that hold the two halves of the key; the statements name them, and never show it. */
const INNER = "sectorwars.mask_inner";
const OUTER = "sectorwars.mask_outer";
/** SHA-256 works in blocks of this size (RFC 2104). */
const BLOCK_BYTES = 64;

/**
 * The key of the masks in the two forms that HMAC takes it in.
 * @param secret anything; the same one gives the same masks another time. Without it nobody ever gets the same again.
 */
export function maskKey(secret: string | undefined): { inner: string; outer: string } {
  const key = Buffer.alloc(BLOCK_BYTES);
  (secret === undefined ? randomBytes(32) : createHash("sha256").update(secret).digest()).copy(key);
  const padded = (pad: number) => Buffer.from(key.map((byte) => byte ^ pad)).toString("hex");
  return { inner: padded(0x36), outer: padded(0x5c) };
}

/** Gives a session the key, as parameters: the statement's text, which logs and statistics keep, does not have it. */
export const setMaskKey = ({ inner, outer }: ReturnType<typeof maskKey>) => ({
  text: `SELECT set_config('${INNER}', $1, false), set_config('${OUTER}', $2, false)`,
  values: [inner, outer],
});

/** HMAC-SHA-256 of a value's text by the session's key (RFC 2104), from functions that every server has. */
const hmac = (value: string): string => {
  // A subquery of its own is worked out once, not for every row.
  const half = (name: string) => `(SELECT decode(current_setting('${name}'), 'hex'))`;
  return `sha256(${half(OUTER)} || sha256(${half(INNER)} || convert_to(${value}, 'UTF8')))`;
};

/** Hexadecimal digits of a mask that two values practically never share: 64 bits. */
const SURE_DIGITS = 16;
const EMAIL_HOST = "@example.com";
/** Signs for hexadecimal digits: syllables of a consonant and a vowel can be pronounced. */
const CONSONANTS = "bdfghjklmnprstvz";
const VOWELS = "aeiouaeiouaeioua";

/** So many syllables from the hexadecimal digits of h, which begin at the place given. */
const syllables = (from: number, count: number): string =>
  Array.from(
    { length: count },
    (_, n) =>
      `substr(translate(h, '0123456789abcdef', '${CONSONANTS}'), ${from + 2 * n}, 1) || ` +
      `substr(translate(h, '0123456789abcdef', '${VOWELS}'), ${from + 2 * n + 1}, 1)`,
  ).join(" || ");

/** Why a mask cannot be used on a column; undefined where it can. */
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
        ? "its values must differ from each other, and short ones would not; use hash, email or name"
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

/** Two words of three syllables and a space. */
const NAME_LENGTH = 13;

/** The column's value as the source is to send it, of the column's own type. NULL stays NULL, with every kind. */
export function maskSql(kind: MaskKind, column: MaskedColumn, value?: string): string {
  const name = ident(column.name);
  const cast = (expression: string) => `(${expression})::${column.type}`;
  const whenThere = (expression: string) => `CASE WHEN ${name} IS NULL THEN NULL ELSE ${cast(expression)} END`;
  if (kind === "null") return cast("NULL");
  if (kind === "fixed") return whenThere(literal(value ?? ""));
  const digest = hmac(textOf(column));
  const digits = `encode(${digest}, 'hex')`;
  const upTo = (length: number) => Math.min(length, column.maxLength ?? length);
  // The digest is worked out once a row, however often its digits are used.
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

/** What of a value its mask depends on: values that are equal to the server have one mask. */
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
    // The sign is left out: keys are positive, as a rule.
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
