/** `./db refresh`: replaces the data by current data from the source. */
import type { Command } from "@commander-js/extra-typings";
import type { Difference } from "../components/import/compare/verify.ts";
import { type Finding, grouped, inOneLine } from "../components/import/preflight/findings.ts";
import { SAFETY_FOLDER } from "../components/import/safety-copy/files.ts";
import { sourceFromEnvironment } from "../components/import/source/source-environment.ts";
import type { SafetyCopySettings } from "../components/import/types.ts";
import { checkRefresh, examineRefresh, type RefreshCheck } from "../components/refresh/check.ts";
import { type Refreshed, type RefreshOrder, refreshData } from "../components/refresh/refresh.ts";
import { BEFORE_REFRESH } from "../components/snapshots/snapshots.ts";
import { untilCancelled } from "../lib/cancellation.ts";
import { defaultIdentityFile } from "../lib/identity-file.ts";
import { readConfig, readDynamicResources, refreshState, type StackResource } from "../lib/stack.ts";
import { confirm, yesOption } from "./support/confirm.ts";
import { addExamples, type Invocation, onStack } from "./support/subcommand.ts";

type Resources = ReadonlyMap<string, StackResource>;

/** Types of resources whose state describes the data, and must be refreshed afterwards. */
const DATA_RESOURCES = ["import:ImportOnce", "migrations:Migrated", "seed:Seeded"];
const UNDO = `./db snapshot restore ${BEFORE_REFRESH}`;

/** Returns the settings of the safety copy for a stack whose first data was not from Neon. A refresh from Neon makes one. */
async function safetyCopyOf(stack: string): Promise<SafetyCopySettings | undefined> {
  const settings = await readConfig(stack);
  const settingOr = (key: string, otherwise: string) => settings.get(key) ?? otherwise;
  if (settingOr("safetyCopy", "auto") === "false") return undefined;
  const [identity, recipient] = [settingOr("safetyCopyIdentity", "auto"), settingOr("safetyCopyRecipient", "auto")];
  return {
    folder: settingOr("safetyCopyFolder", SAFETY_FOLDER),
    identityFile: identity === "auto" ? defaultIdentityFile() : identity,
    recipient: recipient === "auto" ? undefined : recipient,
  };
}

async function orderFor(stack: string, resources: Resources): Promise<RefreshOrder> {
  const inputsOf = <T>(kind: string) => resources.get(kind)?.inputs as T | undefined;
  const inputs = inputsOf<RefreshOrder["import"]>("import:ImportOnce");
  if (inputs === undefined) throw new Error(`The stack ${stack} is not up. Run: script/up --stack ${stack}`);
  return {
    source: await sourceFromEnvironment("./db refresh copies the source that it names"),
    import: inputs,
    migrations: inputsOf("migrations:Migrated"),
    seed: inputsOf("seed:Seeded"),
    safetyCopy: inputs.bootstrap === "neon" ? inputs.safetyCopy : await safetyCopyOf(stack),
  };
}

const listed = ({ object, details }: Difference) => `  ${object}: ${details.join("; ").replaceAll("\n", "\\n")}`;
const isEstimate = ({ code }: Finding) => ["source-size", "wire-estimate", "time-estimate"].includes(code);

/** Formats the result of a check. */
export function describeCheck({ source, database, imported, changes, ours, unknown, findings }: RefreshCheck): string {
  const since = imported && `since the import at ${imported.finishedAt}`;
  const part = (heading: string, differences: readonly Difference[]) =>
    differences.length === 0 ? [] : [`${heading}:`, ...differences.map(listed)];
  const compared =
    changes === null || ours === null
      ? [
          imported
            ? `${database} was imported from ${imported.source}, not from ${source}: a refresh would replace all of it.`
            : `${database} was not filled by an import: a refresh would replace all of it.`,
        ]
      : [
          ...(changes.length === 0 && unknown.length === 0 ? [`Nothing has changed on ${source} ${since}.`] : []),
          ...part(`Changed on ${source} ${since}`, changes),
          ...part(`Different, and unknown whether the source or this database has changed`, unknown),
          ...part(
            `Changed in this database; the new data will lack it, the snapshot ${BEFORE_REFRESH} will contain it`,
            ours,
          ),
        ];
  const estimates = findings.filter(isEstimate).map(({ subject, what }) => `  ${subject}: ${what}`);
  const warnings = grouped(findings.filter(({ level }) => level === "warning")).map((group) => `  ${inOneLine(group)}`);
  return [
    ...compared,
    "A refresh would copy:",
    ...estimates,
    ...(warnings.length > 0 ? ["Warnings:", ...warnings] : []),
    "Nothing was written.",
  ].join("\n");
}

/** Formats the result of a refresh. */
export function describeRefreshed(
  { source, tables, rows, butFor, ran, revision, hasImported, safetyCopy }: Refreshed,
  database: string,
): string {
  const proof = butFor === undefined ? "proven equal to" : `identical except for ${butFor}: from`;
  return [
    `Refreshed: ${database} contains ${tables} tables, ${rows.toLocaleString("en")} rows, ${proof} ${source}.`,
    ...(ran.length > 0 ? [`Migrated to ${revision}: ${ran.join(", ")}.`] : []),
    ...(safetyCopy ? [`Safety copy: ${safetyCopy.name}.`] : []),
    ...(hasImported ? [] : ["The disk was too full for the snapshot of the new data that ./db reset restores."]),
    `The former data is the snapshot ${BEFORE_REFRESH}. To restore it:  ${UNDO}`,
  ].join("\n");
}

/** Checks source and target, and returns what the refresh replaces and keeps. @throws {Error} if there are blockers. */
async function consequenceOf(order: RefreshOrder): Promise<string> {
  const { findings } = await examineRefresh(order, false);
  const figures = findings.filter(({ code }) => ["wire-estimate", "time-estimate"].includes(code));
  return (
    `This replaces all data in ${order.import.database} by that of ${order.source.label} ` +
    `(${figures.map(({ subject, what }) => `${subject}: ${what.replace(/ \(.*/, "")}`).join("; ")}). The swap ends all connections to ` +
    `it. The current data is kept as the snapshot ${BEFORE_REFRESH}, which replaces a former one.`
  );
}

/** Reports that the next update enables backups, because the stack now contains imported data. */
async function announceBackups(stack: string, resources: Resources, say: (line: string) => void): Promise<void> {
  if (resources.has("backups:BackupsBegun") || (await readConfig(stack)).get("backups") !== "auto") return;
  say("The next pulumi up enables backups, and restarts the server for that (the setting backups is auto)");
}

/** Updates Pulumi's state after a refresh. If that fails, the data is still in place, and a later pulumi refresh updates the state. */
async function updateState(stack: string, resources: Resources, say: (line: string) => void): Promise<void> {
  const urns = DATA_RESOURCES.flatMap((kind) => resources.get(kind)?.urn ?? []);
  await refreshState(stack, urns).catch((error: Error) =>
    say(`Pulumi's state was not updated (${error.message}). Run: pulumi refresh --yes --stack ${stack}`),
  );
}

async function check(order: RefreshOrder, { print }: Invocation): Promise<number> {
  const found = await untilCancelled(() => checkRefresh(order, (line) => console.error(`check: ${line}`)));
  print(describeCheck(found), found);
  return 0;
}

async function run(invocation: Invocation, options: { check?: true; yes?: true }): Promise<number> {
  const { stack, say, print } = invocation;
  const resources = await readDynamicResources(stack);
  const order = await orderFor(stack, resources);
  if (options.check) return check(order, invocation);
  if (!(await confirm(options.yes, await consequenceOf(order)))) return 1;
  const refreshed = await untilCancelled(() => refreshData(order, say));
  await updateState(stack, resources, say);
  await announceBackups(stack, resources, say);
  const words = describeRefreshed(refreshed, order.import.database);
  print(words, { ...refreshed, kept: BEFORE_REFRESH, undo: UNDO });
  return 0;
}

/** Configures the command `./db refresh`. */
export default function refresh(command: Command): void {
  command
    .description(
      "Imports the source that NEON_DATABASE_URL names again, into a staging database with the proof of an import, and migrates it to " +
        "the stack's revision. Then it replaces the current data, which is kept as the snapshot " +
        `${BEFORE_REFRESH}. Passwords, roles, settings, further databases, branches, backups and the application's files do not change. ` +
        "Ctrl-C or a failure before the swap changes nothing.",
    )
    .option("--check", "only show what has changed on the source and how much would be copied; write nothing")
    .addOption(yesOption())
    .action(onStack(run));
  addExamples(command, {
    "refresh --check": "show what has changed since the import",
    refresh: "replace the data, after a confirmation",
    [`snapshot restore ${BEFORE_REFRESH}`]: "restore the former data",
  });
}
