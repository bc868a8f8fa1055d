/** Cleans up connection URLs that people paste. Pure. */

/**
 * Removes text that is often copied together with a URL from a console or an .env file: `psql '...'`, `DATABASE_URL=...`, `export`,
 * quotes and surrounding white space. The URL itself does not change.
 */
export function bareUrl(text: string): string {
  let bare = text.trim();
  for (let before = ""; before !== bare; ) {
    before = bare;
    bare = bare
      .replace(/^(?:export\s+)?[A-Za-z_]\w*\s*=\s*(?=['"]?(?:postgres(?:ql)?:|psql\s))/, "")
      .replace(/^psql\s+(?=['"]?postgres(?:ql)?:)/, "")
      .replace(/^(['"])(.*)\1;?$/s, "$2")
      .trim();
  }
  return bare;
}
