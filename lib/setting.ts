/**
 * Settings as tables: each component declares its settings once, with their types and rules. Pulumi.yaml contains defaults and
 * descriptions, from which docs/settings.md is generated.
 */
import * as pulumi from "@pulumi/pulumi";

/** A rule for a setting's value. */
export interface Rule<Value> {
  isValid(value: Value): boolean;
  /** The remedy for an invalid value, as an instruction: "choose 1 to 16". */
  remedy: string;
}

/** A setting: its type in Pulumi.yaml, its rules, and a function that reads it. */
export interface Setting<Value> {
  type: "string" | "integer" | "boolean" | "array";
  rules: readonly Rule<Value>[];
  read(config: pulumi.Config, key: string): Value;
}

/** Settings by their keys. */
export type SettingsTable = Readonly<Record<string, Setting<unknown>>>;

/** The values of a table's settings. */
export type ValuesOf<Table extends SettingsTable> = {
  -readonly [Key in keyof Table]: Table[Key] extends Setting<infer Value> ? Value : never;
};

/** Creates a rule from a predicate. */
export const rule = <Value>(isValid: (value: Value) => boolean, remedy: string): Rule<Value> => ({ isValid, remedy });

/** The rule that a text matches a pattern. */
export const matches = (pattern: RegExp, remedy: string): Rule<string> => rule((value) => pattern.test(value), remedy);

/** The rule that a text is one of several words, which the remedy lists. */
export const oneOf = (...words: readonly string[]): Rule<string> => {
  const last = words.at(-1) ?? "";
  const remedy = words.length > 1 ? `choose ${words.slice(0, -1).join(", ")} or ${last}` : `choose ${last}`;
  return rule((value) => words.includes(value), remedy);
};

/** The rule that a number is whole and within limits, both included. */
export const whole = (min: number, max: number, remedy = `choose ${min} to ${max}`): Rule<number> =>
  rule((value) => Number.isInteger(value) && value >= min && value <= max, remedy);

/** The rule that a text is not blank. */
export const notBlank = (remedy: string): Rule<string> => rule((value) => value.trim() !== "", remedy);

/** The rule that each entry of a list is valid. */
export const each = (isValid: (entry: string) => boolean, remedy: string): Rule<string[]> =>
  rule((list) => list.every(isValid), remedy);

/** A setting that is a text. */
export const text = (...rules: Rule<string>[]): Setting<string> => ({
  type: "string",
  rules,
  read: (config, key) => config.get(key) ?? "",
});

/** A setting that is a number. */
export const number = (...rules: Rule<number>[]): Setting<number> => ({
  type: "integer",
  rules,
  read: (config, key) => config.requireNumber(key),
});

/** A port without special rights, or 0 for one that the program chooses. */
export const portNumber = (): Setting<number> =>
  number(
    rule(
      (port) => port === 0 || (Number.isInteger(port) && port >= 1024 && port <= 65535),
      "choose 1024 to 65535, or 0 for the default",
    ),
  );

/** A setting that is true or false. */
export const flag = (): Setting<boolean> => ({
  type: "boolean",
  rules: [],
  read: (config, key) => config.requireBoolean(key),
});

/** A setting that is a list of texts. */
export const list = (...rules: Rule<string[]>[]): Setting<string[]> => ({
  type: "array",
  rules,
  read: (config, key) => config.requireObject<string[]>(key),
});

/** A setting that is a list of texts, which may be secrets. Pulumi's own getter would warn about reading secrets in clear text. */
export const secretList = (): Setting<string[]> => ({
  type: "array",
  rules: [],
  read: (config, key) => JSON.parse(pulumi.runtime.allConfig()[`${config.name}:${key}`] ?? "[]"),
});

/** Reads the settings of a table. */
export const readValues = <Table extends SettingsTable>(table: Table, config: pulumi.Config): ValuesOf<Table> =>
  Object.fromEntries(
    Object.entries(table).map(([key, setting]) => [key, setting.read(config, key)]),
  ) as ValuesOf<Table>;

/** Returns a line for each setting whose value breaks one of its rules: key, value, remedy. Pure. */
export const brokenRules = <Table extends SettingsTable>(table: Table, values: ValuesOf<Table>): string[] =>
  Object.entries(table).flatMap(([key, { rules }]) => {
    const value = values[key];
    const broken = rules.find((one) => !one.isValid(value));
    return broken ? [`${key} is ${JSON.stringify(value)}: ${broken.remedy}`] : [];
  });
