/** Generates docs/settings.md from Pulumi.yaml. */
import { parseDocument } from "yaml";

interface Described {
  type: string;
  default: unknown;
  description: string;
}

const HEAD = `# Settings

\`pulumi config set KEY VALUE\` changes a setting of the selected stack, \`pulumi up\` applies it. An entry of a list is set by
\`pulumi config set --path 'KEY[0]' VALUE\`. A wrong value is refused before anything changes, with what it may be.

This page is generated from [Pulumi.yaml](../Pulumi.yaml): \`npm run docs\`.
`;

/** Formats a default value. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "empty" : value.map((entry) => `\`${entry}\``).join(", ");
  return value === "" ? "empty" : `\`${value}\``;
}

/** Escapes the text of a table cell: a pipe would end the cell. */
const cell = (text: string): string =>
  text.trim().replaceAll(/\s+/g, " ").replaceAll("|", "\\|").replaceAll("<", "&lt;");

/**
 * Generates the page: a section for each comment before a setting in Pulumi.yaml, with a table of the settings after it. Pure.
 * @param yaml the text of Pulumi.yaml.
 */
export function settingsPage(yaml: string): string {
  const config = parseDocument(yaml).get("config", true) as unknown as {
    commentBefore?: string;
    items: { key: { value: string; commentBefore?: string }; value: { toJSON(): Described } }[];
  };
  const lines = [HEAD];
  config.items.forEach(({ key, value }, index) => {
    const title = key.commentBefore ?? (index === 0 ? config.commentBefore : undefined);
    if (title) lines.push(`## ${title.trim()}\n`, "| setting | default | meaning |", "| --- | --- | --- |");
    const described = value.toJSON();
    lines.push(`| \`${key.value}\` | ${shown(described.default)} | ${cell(described.description)} |`);
  });
  // Markdown needs a blank line between a table and the next heading.
  return `${lines.join("\n").replaceAll("|\n## ", "|\n\n## ")}\n`;
}
