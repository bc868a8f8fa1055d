/** Markup for the report. Every text is escaped unless it is markup already, so escaping cannot be forgotten. */

/** Markup that needs no escaping. */
export interface Html {
  readonly markup: string;
}

/** A value in a template. `undefined` and `false` produce nothing, so parts of a page can be optional. */
export type Content = Html | string | number | undefined | false | readonly Content[];

/** Marks text as markup. For constants of this program only. */
export const raw = (markup: string): Html => ({ markup });

/** Escapes text for use between tags and in quoted attributes. */
export const escapeText = (text: string): string =>
  text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");

function markupOf(content: Content): string {
  if (content === undefined || content === false) return "";
  if (typeof content === "string" || typeof content === "number") return escapeText(String(content));
  return "markup" in content ? content.markup : content.map(markupOf).join("");
}

/** Template tag that escapes its values. */
export const html = (parts: TemplateStringsArray, ...contents: Content[]): Html =>
  raw(parts.map((part, index) => part + markupOf(contents[index])).join(""));

/** Formats a duration for people. */
export function duration(milliseconds: number): string {
  const whole = Math.round(milliseconds);
  if (whole < 1000) return `${whole} ms`;
  if (whole < 60_000) return `${(whole / 1000).toFixed(1)} s`;
  const seconds = Math.round(whole / 1000);
  const minutes = Math.floor(seconds / 60);
  const [large, small] = minutes < 60 ? [minutes, seconds % 60] : [Math.floor(minutes / 60), minutes % 60];
  const [largeUnit, smallUnit] = minutes < 60 ? ["min", "s"] : ["h", "min"];
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** A heading of a table's column. */
export interface Heading {
  text: string;
  /** Right-aligned. */
  numeric?: boolean;
}

/**
 * Returns a table in a box that scrolls on a narrow page; the box can take the focus and has a name for that. The first cell of a row
 * is the row's heading.
 */
export function table(caption: string, headings: readonly Heading[], rows: readonly (readonly Content[])[]): Html {
  const align = (index: number) => (headings[index]?.numeric ? raw(' class="number"') : undefined);
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0"><table>
<caption>${caption}</caption>
<thead><tr>${headings.map(({ text }, index) => html`<th scope="col"${align(index)}>${text}</th>`)}</tr></thead>
<tbody>
${rows.map(
  ([first, ...cells]) =>
    html`<tr><th scope="row">${first}</th>${cells.map((cell, index) => html`<td${align(index + 1)}>${cell}</td>`)}</tr>\n`,
)}</tbody>
</table></div>`;
}
