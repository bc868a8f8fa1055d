/** Connection URLs as people paste them. Pure. */

/**
 * Takes off what is copied along with a URL from a console or an .env file: `psql '...'`, `DATABASE_URL=...`, `export`, quotes and
 * white space around it. Of a URL itself nothing changes.
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
