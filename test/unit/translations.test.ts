import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { translationsSql } from "../../components/import/source/translations.ts";

const sql = translationsSql();

/** Rows of a COPY, their fields read as PostgreSQL reads them. */
function rowsOf(target: string): string[][] {
  const begin = `COPY ${target} FROM stdin;\n`;
  const from = sql.indexOf(begin);
  expect(from, `no COPY into ${target}`).toBeGreaterThanOrEqual(0);
  const body = sql.slice(from + begin.length, sql.indexOf("\n\\.\n", from));
  const signs: Record<string, string> = { t: "\t", n: "\n", r: "\r", "\\": "\\" };
  return body
    .split("\n")
    .map((line) => line.split("\t").map((text) => text.replaceAll(/\\(.)/g, (_, sign: string) => signs[sign] ?? sign)));
}

describe("the translations of the sample", () => {
  const languages = rowsOf("languages");
  const keys = rowsOf("translation_keys (namespace_id, key)");
  const texts = rowsOf("translations");

  test("have a row for each language, with its own name and direction", () => {
    expect(languages).toHaveLength(24);
    expect(languages).toContainEqual(["de", "German", "Deutsch", "f"]);
    expect(languages).toContainEqual(["ar", "Arabic", "العربية", "t"]);
    expect(languages).toContainEqual(["ja", "Japanese", "日本語", "f"]);
    for (const row of languages) expect(row).toHaveLength(4);
  });

  test("have one text for each key in each language, 6,000 to 8,000 in total", () => {
    expect(texts).toHaveLength(keys.length * languages.length);
    expect(texts.length).toBeGreaterThan(6000);
    expect(texts.length).toBeLessThan(8000);
    const pairs = new Set(texts.map(([key, language]) => `${key} ${language}`));
    expect(pairs.size).toBe(texts.length);
  });

  test("refer only to existing keys and languages", () => {
    const codes = new Set(languages.map(([code]) => code));
    for (const [key, language, text] of texts) {
      expect(Number(key)).toBeGreaterThanOrEqual(1);
      expect(Number(key)).toBeLessThanOrEqual(keys.length);
      expect(codes.has(language)).toBe(true);
      expect(text).not.toBe("");
    }
  });

  test("name a region in each language", () => {
    const germany = String(keys.findIndex(([, key]) => key === "region.DE") + 1);
    expect(texts).toContainEqual([germany, "en", "Germany"]);
    expect(texts).toContainEqual([germany, "fr", "Allemagne"]);
    expect(texts).toContainEqual([germany, "zh", "德国"]);
    expect(new Set(keys.map(([, key]) => key)).size).toBe(keys.length);
  });

  test("fill only tables of the sample", () => {
    const schema = readFileSync("sql/sample/10-schema.sql", "utf8");
    for (const [, table] of sql.matchAll(/^(?:COPY|INSERT INTO) (\w+)/gm)) {
      expect(schema).toContain(`CREATE TABLE ${table} (`);
    }
  });

  test("are the same each time", () => {
    expect(translationsSql() === sql).toBe(true);
  });
});
