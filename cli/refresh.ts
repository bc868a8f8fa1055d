/** `./db refresh`: fresh data from the source, in the place of the data of today. */
import type { Command } from "@commander-js/extra-typings";
import { type Finding, grouped, inOneLine } from "../components/import/preflight/findings.ts";
import { SAFETY_FOLDER } from "../components/import/safety-copy-files.ts";
import { sourceFromEnvironment } from "../components/import/source-environment.ts";
import type { SafetyCopySettings } from "../components/import/types.ts";
import type { Difference } from "../components/import/verify.ts";
import { checkRefresh, examineRefresh, type RefreshCheck } from "../components/refresh/check.ts";
import { type Refreshed, type RefreshOrder, refreshData } from "../components/refresh/refresh.ts";
import { BEFORE_REFRESH } from "../components/snapshots/snapshots.ts";
import { untilCancelled } from "../lib/cancellation.ts";
import { defaultIdentityFile } from "../lib/identity-file.ts";
import { readConfig, readDynamicResources, refreshState, type StackResource } from "../lib/stack.ts";
import { confirm, yesOption } from "./support/confirm.ts";
import { addExamples, type Invocation, onStack } from "./support/subcommand.ts";

type Resources = ReadonlyMap<string, StackResource>;

/** Resources whose state tells of the data, and so must be read again after a refresh. */
const TOLD_OF_DATA = ["import:ImportOnce", "migrations:Migrated", "seed:Seeded"];
const UNDO = `./db snapshot restore ${BEFORE_REFRESH}`;

/** A stack that began with the sample, or empty, has no safety copy of its own; data from Neon is worth one. */
async function safetyCopyOf(stack: string): Promise<SafetyCopySettings | undefined> {
  const settings = await readConfig(stack);
  const said = (key: string, otherwise: string) => settings.get(key) ?? otherwise;
  if (said("safetyCopy", "auto") === "false") return undefined;
  const [identity, recipient] = [said("safetyCopyIdentity", "auto"), said("safetyCopyRecipient", "auto")];
  return {
    folder: said("safetyCopyFolder", SAFETY_FOLDER),
    identityFile: identity === "auto" ? defaultIdentityFile() : identity,
    recipient: recipient === "auto" ? undefined : recipient,
  };
}

async function orderFor(stack: string, resources: Resources): Promise<RefreshOrder> {
  const inputsOf = <T>(kind: string) => resources.get(kind)?.inputs as T | undefined;
  const inputs = inputsOf<RefreshOrder["import"]>("import:ImportOnce");
  if (inputs === undefined) throw new Error(`The stack ${stack} is not up. Run: script/up --stack ${stack}`);
  return {
    source: await sourceFromEnvironment("./db refresh copies what it names"),
    import: inputs,
    migrations: inputsOf("migrations:Migrated"),
    seed: inputsOf("seed:Seeded"),
    safetyCopy: inputs.bootstrap === "neon" ? inputs.safetyCopy : await safetyCopyOf(stack),
  };
}

const listed = ({ object, details }: Difference) => `  ${object}: ${details.join("; ").replaceAll("\n", "\\n")}`;
const isEstimate = ({ code }: Finding) => ["source-size", "wire-estimate", "time-estimate"].includes(code);

/** A check in words. */
export function describeCheck({ source, database, imported, changes, ours, unknown, findings }: RefreshCheck): string {
  const since = imported && `since the import at ${imported.finishedAt}`;
  const part = (heading: string, differences: readonly Difference[]) =>
    differences.length === 0 ? [] : [`${heading}:`, ...differences.map(listed)];
  const compared =
    changes === null || ours === null
      ? [
          imported
            ? `${database} was imported from ${imported.source}, and not from ${source}: all of it would be replaced.`
            : `No import has filled ${database}: all of it would be replaced.`,
        ]
      : [
          ...(changes.length === 0 && unknown.length === 0 ? [`Nothing has changed on ${source} ${since}.`] : []),
          ...part(`Changed on ${source} ${since}`, changes),
          ...part(`Different, and not known where it has changed`, unknown),
          ...part(`Changed here, which the new data will not have (the snapshot ${BEFORE_REFRESH} will)`, ours),
        ];
  const estimates = findings.filter(isEstimate).map(({ subject, what }) => `  ${subject}: ${what}`);
  const warnings = grouped(findings.filter(({ level }) => level === "warning")).map((group) => `  ${inOneLine(group)}`);
  return [
    ...compared,
    "A refresh would copy:",
    ...estimates,
    ...(warnings.length > 0 ? ["Worth a thought:", ...warnings] : []),
    "Nothing was written.",
  ].join("\n");
}

/** What a refresh has done, in words. */
export function describeRefreshed(
  { source, tables, rows, butFor, ran, revision, hasImported, safetyCopy }: Refreshed,
  database: string,
): string {
  const proof = butFor === undefined ? "proven equal to" : `identical but for ${butFor}: from`;
  return [
    `Refreshed: ${database} holds ${tables} tables, ${rows.toLocaleString("en")} rows, ${proof} ${source}.`,
    ...(ran.length > 0 ? [`Migrated to ${revision}: ${ran.join(", ")}.`] : []),
    ...(safetyCopy ? [`Safety copy: ${safetyCopy.name}.`] : []),
    ...(hasImported ? [] : ["There was no room for the snapshot of the new data that ./db reset goes back to."]),
    `The former data is the snapshot ${BEFORE_REFRESH}. Back to it:  ${UNDO}`,
  ].join("\n");
}

/** What a refresh replaces, and what becomes of it; after a look at both ends, which must find nothing in the way. */
async function consequenceOf(order: RefreshOrder): Promise<string> {
  const { findings } = await examineRefresh(order, false);
  const figures = findings.filter(({ code }) => ["wire-estimate", "time-estimate"].includes(code));
  return (
    `This replaces all data in ${order.import.database} by that of ${order.source.label} ` +
    `(${figures.map(({ subject, what }) => `${subject}: ${what.replace(/ \(.*/, "")}`).join("; ")}). Connections to it end in the ` +
    `moment of the exchange. What is there now is kept as the snapshot ${BEFORE_REFRESH}, in place of a former one.`
  );
}

/** A stack that began without data of its own may have no backups yet. */
async function announceBackups(stack: string, resources: Resources, say: (line: string) => void): Promise<void> {
  if (resources.has("backups:BackupsBegun") || (await readConfig(stack)).get("backups") !== "auto") return;
  say("The next pulumi up switches backups on, and restarts the server for it (the setting backups is auto)");
}

/** The state of the stack follows the data. The data is in place; should this fail, the next refresh of the state does it. */
async function noteInState(stack: string, resources: Resources, say: (line: string) => void): Promise<void> {
  const urns = TOLD_OF_DATA.flatMap((kind) => resources.get(kind)?.urn ?? []);
  await refreshState(stack, urns).catch((error: Error) =>
    say(`Pulumi's state does not know of it yet (${error.message}). Run: pulumi refresh --yes --stack ${stack}`),
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
  await noteInState(stack, resources, say);
  await announceBackups(stack, resources, say);
  const words = describeRefreshed(refreshed, order.import.database);
  print(words, { ...refreshed, kept: BEFORE_REFRESH, undo: UNDO });
  return 0;
}

/** Adds what `./db refresh` takes and does to its command. */
export default function refresh(command: Command): void {
  command
    .description(
      "Copies the source that NEON_DATABASE_URL names again: beside the data of today, with the proof of an import, then migrated to " +
        "where the stack's schema is to stand. Then it takes the place of the data of today, which is kept as the snapshot " +
        `${BEFORE_REFRESH}. Passwords, roles, settings, further databases, branches, backups and the application's files stay as they ` +
        "are. Ctrl-C, or a failure, before the exchange changes nothing.",
    )
    .option("--check", "only say what has changed on the source and how much would be copied; writes nothing")
    .addOption(yesOption())
    .action(onStack(run));
  addExamples(command, {
    "refresh --check": "what has changed since the import",
    refresh: "fresh data, after a question",
    [`snapshot restore ${BEFORE_REFRESH}`]: "and back",
  });
}
