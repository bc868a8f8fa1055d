/** Findings of a preflight, and how they are printed. Pure. */

/** `blocker`: the import does not start. `warning`: it continues, and its report has the warning. `fact`: information. */
export type Level = "blocker" | "warning" | "fact";

/** All codes of findings, with their levels. docs/import.md explains each. A code never changes its meaning. */
export const CODES = {
  // The connection to the source.
  "url-invalid": "blocker",
  "host-unknown": "blocker",
  "port-closed": "blocker",
  "host-silent": "blocker",
  "tls-missing": "blocker",
  "channel-binding-missing": "blocker",
  "certificate-untrusted": "blocker",
  "certificate-other-host": "blocker",
  "certificate-expired": "blocker",
  "password-wrong": "blocker",
  "login-refused": "blocker",
  "database-missing": "blocker",
  "source-unreadable": "blocker",
  "connection-changed": "fact",
  tls: "fact",
  "clear-text": "fact",
  // The source's server and database.
  "version-unsupported": "blocker",
  "version-newer": "fact",
  "dump-missing": "blocker",
  "encoding-unsupported": "blocker",
  "connections-exhausted": "blocker",
  "table-locked": "blocker",
  "prepared-transactions": "warning",
  "source-is-replica": "warning",
  // What the role may not read.
  "privilege-missing": "blocker",
  "rows-hidden": "blocker",
  // What the target cannot create.
  "extension-missing": "blocker",
  "extension-older": "warning",
  "extension-rows": "warning",
  "role-missing": "blocker",
  "superuser-needed": "blocker",
  "collation-missing": "blocker",
  "feature-virtual-column": "blocker",
  "feature-temporal-constraint": "blocker",
  "feature-not-enforced": "blocker",
  "feature-not-null": "blocker",
  "feature-partitioned-exclusion": "blocker",
  "feature-storage-parameter": "blocker",
  "feature-expression": "blocker",
  "feature-function": "blocker",
  "feature-partition-identity": "warning",
  "feature-in-body": "warning",
  "object-not-made": "blocker",
  "body-not-valid": "warning",
  "schema-not-tried": "fact",
  "schema-tried": "fact",
  // How text is compared.
  "collation-order": "warning",
  "collation-uniqueness": "warning",
  "collation-bounds": "warning",
  "collation-computed": "warning",
  "collation-version": "warning",
  // The contents.
  "invalid-index": "warning",
  "foreign-table": "warning",
  "alembic-several": "warning",
  "alembic-empty": "warning",
  "alembic-revision": "fact",
  "large-objects": "fact",
  "no-primary-key": "fact",
  "unlogged-table": "fact",
  "partitioned-table": "fact",
  "inherited-table": "fact",
  "generated-column": "fact",
  "identity-column": "fact",
  "left-out": "fact",
  "source-size": "fact",
  "wire-estimate": "fact",
  "time-estimate": "fact",
  // The target.
  "target-unreachable": "blocker",
  "target-not-empty": "blocker",
  "target-connections": "blocker",
  "target-name-taken": "blocker",
  "import-running": "blocker",
  "disk-too-small": "blocker",
  "disk-tight": "warning",
  "disk-unknown": "fact",
  "disk-room": "fact",
  "target-not-seen": "fact",
  "imported-before": "fact",
  "side-database-left": "fact",
} as const satisfies Record<string, Level>;

/** One of {@link CODES}. */
export type Code = keyof typeof CODES;

/** One finding. */
export interface Finding {
  level: Level;
  code: Code;
  /** A table, an extension, a host. */
  subject: string;
  /** A sentence without its subject; the same text for all findings of one kind, so that they can be grouped. */
  what: string;
  /** An instruction. */
  remedy?: string;
}

/** Returns a finding; its level follows from the code. */
export const finding = (code: Code, subject: string, what: string, remedy?: string): Finding => ({
  level: CODES[code],
  code,
  subject,
  what,
  ...(remedy ? { remedy } : {}),
});

/** Returns the same finding for several subjects. */
export const findings = (code: Code, subjects: readonly string[], what: string, remedy?: string): Finding[] =>
  subjects.map((subject) => finding(code, subject, what, remedy));

/** Findings with the same text about several subjects. */
export interface Group extends Omit<Finding, "subject"> {
  subjects: string[];
}

const ORDER: readonly Level[] = ["blocker", "warning", "fact"];

/** Groups findings with the same text: blockers first, otherwise in the order in which they were found. */
export function grouped(found: readonly Finding[]): Group[] {
  const groups = new Map<string, Group>();
  for (const { subject, ...same } of found) {
    const key = JSON.stringify([same.code, same.what, same.remedy]);
    const group = groups.get(key) ?? { ...same, subjects: [] };
    group.subjects.push(subject);
    groups.set(key, group);
  }
  return [...groups.values()].sort((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level));
}

/** Names that are printed before the rest is counted. */
const NAMED = 5;

/**
 * Returns the first few names and the number of others.
 * @param all where all names are listed.
 */
export function someOf(names: readonly string[], all: string, named = NAMED): string {
  const more = names.length - named;
  // "and 1 more" is not shorter than the name.
  return more > 1 ? `${names.slice(0, named).join(", ")} and ${more} more (${all} lists all)` : names.join(", ");
}

const sentence = (text: string) => (/[.!?]$/.test(text) ? text : `${text}.`);

/** Returns a group as one line, with all of its names. */
export const inOneLine = ({ code, subjects, what, remedy }: Group): string =>
  `${subjects.join(", ")}: ${remedy ? `${sentence(what)} ${sentence(remedy)}` : what} [${code}]`;

/** Returns whether a finding is a blocker. */
export const isBlocked = (found: readonly Finding[]): boolean => found.some(({ level }) => level === "blocker");

/** Returns the remarks for the import's report: the warnings, and how the connection was changed. */
export const remarksOf = (found: readonly Finding[]): string[] => [
  ...found.filter(({ code }) => code === "connection-changed").map(({ what }) => what),
  ...grouped(found.filter(({ level }) => level === "warning")).map(inOneLine),
];

/** Returns what an import prints when it starts: each warning in one line with at most 3 names, and the estimates. */
export const warningLines = (found: readonly Finding[]): string[] => [
  ...grouped(found.filter(({ level }) => level === "warning")).map(
    ({ code, subjects, what }) => `warning, ${someOf(subjects, "the report", 3)}: ${what} [${code}]`,
  ),
  ...found
    .filter(({ code }) => code === "wire-estimate" || code === "time-estimate")
    .map(({ subject, what }) => `${subject}: ${what.replace(/ \(.*/, "")}`),
];

/** Findings about the connection to the source. */
const OF_CONNECTION = new Set<Code>([
  "host-unknown",
  "port-closed",
  "host-silent",
  "tls-missing",
  "channel-binding-missing",
  "certificate-untrusted",
  "certificate-other-host",
  "certificate-expired",
  "password-wrong",
  "login-refused",
  "database-missing",
  "source-unreadable",
]);

function messageOf(blockers: readonly Group[]): string {
  const [only] = blockers;
  if (blockers.length === 1 && only && OF_CONNECTION.has(only.code)) {
    return `The source ${only.subjects[0]} ${sentence(only.what)} ${sentence(only.remedy ?? "")}`;
  }
  return `The import cannot start, and nothing was changed:\n${blockers.map((group) => `  - ${inOneLine(group)}`).join("\n")}`;
}

/** The error for an import that cannot start: every blocker with its remedy. */
export class PreflightError extends Error {
  readonly findings: readonly Finding[];

  constructor(found: readonly Finding[], cause?: unknown) {
    super(messageOf(grouped(found.filter(({ level }) => level === "blocker"))), { cause });
    this.name = "PreflightError";
    this.findings = found;
  }
}

const HEADINGS: Record<Level, string> = {
  blocker: "Blockers",
  warning: "Warnings",
  fact: "Information",
};

/** Returns one line that sums up the findings. */
export function verdictOf(found: readonly Finding[]): string {
  const count = (level: Level) => found.filter((one) => one.level === level).length;
  const [blockers, warnings] = [count("blocker"), count("warning")];
  const warned = warnings === 0 ? "" : ` ${warnings} warning${warnings > 1 ? "s" : ""}.`;
  if (blockers === 0 && found.some(({ code }) => code === "imported-before")) {
    return `There are no blockers, but this database was imported before, so pulumi up imports nothing.${warned}`;
  }
  if (blockers === 0) return `The import can start.${warned}`;
  return `The import cannot start: ${blockers} blocker${blockers > 1 ? "s" : ""}.${warned}`;
}

/** Formats a heading, for instance with a terminal's colours. */
export type Paint = (level: Level, heading: string) => string;

/** Returns all findings as text, blockers first. */
export function layOut(found: readonly Finding[], paint: Paint = (_level, heading) => heading): string {
  const groups = grouped(found);
  const parts = ORDER.flatMap((level) => {
    const own = groups.filter((group) => group.level === level);
    if (own.length === 0) return [];
    const lines = own.map(({ code, subjects, what, remedy }) =>
      [`  • ${someOf(subjects, "--json")}: ${what} [${code}]`, ...(remedy ? [`    → ${sentence(remedy)}`] : [])].join(
        "\n",
      ),
    );
    return [`${paint(level, HEADINGS[level])}\n${lines.join("\n")}`];
  });
  return [...parts, verdictOf(found)].join("\n\n");
}
