/** The defaults of all settings, from Pulumi.yaml. */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import type { RawSettings } from "../../components/settings.ts";

const { config }: { config: Record<string, { default: unknown }> } = parse(readFileSync("Pulumi.yaml", "utf8"));
const entries = Object.entries(config).map(([key, { default: value }]): [string, unknown] => [key, value]);

/** The defaults as values. */
export const DEFAULT_SETTINGS = Object.fromEntries(entries) as RawSettings;

/** The defaults as Pulumi passes them to the program: as text, and lists as JSON. */
export const DEFAULT_CONFIG = Object.fromEntries(
  entries.map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
) as Record<keyof RawSettings, string>;
