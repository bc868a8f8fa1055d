/** Text in many scripts for the sample: the names of countries and languages from Unicode's CLDR in Node. */

const LANGUAGES = [
  "ar",
  "bn",
  "cs",
  "de",
  "el",
  "en",
  "es",
  "fa",
  "fr",
  "he",
  "hi",
  "it",
  "ja",
  "ka",
  "ko",
  "pl",
  "pt",
  "ru",
  "ta",
  "th",
  "tr",
  "uk",
  "vi",
  "zh",
];
const RIGHT_TO_LEFT = new Set(["ar", "fa", "he"]);

/** Returns the two-letter codes of regions. */
function regionCodes(): string[] {
  const names = new Intl.DisplayNames("en", { type: "region", fallback: "none" });
  const letters = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];
  return letters.flatMap((a) => letters.map((b) => a + b)).filter((code) => names.of(code) !== undefined);
}

/** Escapes a value for COPY's text format. */
const field = (value: string) =>
  value.replaceAll(/[\\\t\n\r]/g, (sign) => `\\${{ "\\": "\\", "\t": "t", "\n": "n", "\r": "r" }[sign]}`);

/** Returns SQL for psql that fills the tables about languages with about 7,000 rows. */
export function translationsSql(): string {
  const codes = regionCodes();
  const inEnglish = new Intl.DisplayNames("en", { type: "language" });
  const languages = LANGUAGES.map((code) => {
    const native = new Intl.DisplayNames(code, { type: "language" }).of(code) ?? code;
    return [code, inEnglish.of(code) ?? code, native, RIGHT_TO_LEFT.has(code) ? "t" : "f"];
  });
  const texts = LANGUAGES.flatMap((language) => {
    const names = new Intl.DisplayNames(language, { type: "region" });
    return codes.map((code, index) => [String(index + 1), language, names.of(code) ?? code]);
  });
  const copy = (table: string, rows: string[][]) =>
    `COPY ${table} FROM stdin;\n${rows.map((row) => row.map(field).join("\t")).join("\n")}\n\\.\n`;
  return [
    copy("languages", languages),
    "INSERT INTO translation_namespaces (name) VALUES ('regions'), ('unused');\n",
    copy(
      "translation_keys (namespace_id, key)",
      codes.map((code) => ["1", `region.${code}`]),
    ),
    copy("translations", texts),
  ].join("");
}
