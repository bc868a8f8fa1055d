/** Summarizes what a hand-over has done. Pure. */
import { relative } from "node:path";
import { shellWord } from "../../lib/shell-word.ts";
import type { ComposePlan, Plan } from "./plan.ts";

/** Values for the summary that the plan does not contain. */
export interface SummaryOptions {
  folder: string;
  stack: string;
  /** The application's env file, and the Compose file of the hand-over. */
  envPath: string;
  overridePath: string;
  isLocal: boolean;
  service: string;
  port: number;
  /** The pooler's port on this machine, if services connect through it. */
  poolerPort?: number | undefined;
  /** Variables of this process, which override those of the file. */
  environment: NodeJS.ProcessEnv;
}

/** Returns the names as one text, or undefined for an empty list. */
const listed = (names: readonly string[]): string | undefined => (names.length > 0 ? names.join(", ") : undefined);

/** Returns the summary for the terminal. */
export function summaryOf({ variables, compose, next }: Plan, options: SummaryOptions): string {
  const { envPath, overridePath, isLocal, folder, stack } = options;
  const over = compose?.files.map((file) => relative(folder, file)).join(", ");
  const lines: [string, string | undefined][] = [
    ["files", `${envPath} (the block of the stack ${stack})`],
    ["", compose && `${overridePath} (over ${over})`],
    ["variables", listed(Object.keys(variables))],
    ...(compose ? serviceLines(compose, options) : []),
    ...(compose ? launcherLines(compose, options) : []),
    ...environmentLines(variables, options),
    ["next", next ?? "restart the application; it has no Compose file"],
  ];
  const shown = lines.filter(([, value]) => value !== undefined);
  return [
    `handover: the application uses the ${isLocal ? "local" : "remote"} database`,
    ...shown.map(([name, value]) => `  ${name.padEnd(11)}${value}`),
  ].join("\n");
}

function serviceLines({ project, redirects }: ComposePlan, options: SummaryOptions): [string, string | undefined][] {
  const { service, port, poolerPort, isLocal } = options;
  const described = Object.entries(redirects.services)
    .filter(([, { isUser }]) => isUser)
    .map(([name, { view, isSuperuser, isPooled }]) => {
      const how = [
        ...(isPooled ? ["through the pooler"] : []),
        ...(view === "host" && isLocal ? [`at 127.0.0.1:${isPooled ? poolerPort : port}`] : []),
        ...(isSuperuser ? ["superuser"] : []),
      ];
      return how.length > 0 ? `${name} (${how.join(", ")})` : name;
    });
  const others = Object.keys(project.services).filter((name) => name !== service && !redirects.services[name]?.isUser);
  const byFile = Object.entries(redirects.services)
    .filter(([, { fileVariables }]) => fileVariables.length > 0)
    .map(([name, { fileVariables }]) => `${name} (${fileVariables.join(", ")})`);
  return [
    ["services", listed(described)],
    ["replaced", Object.hasOwn(project.services, service) ? service : undefined],
    ["unchanged", listed(others)],
    ...[...redirects.names.others]
      .sort()
      .map((name): [string, string] => [
        "database",
        `services also use the database "${name}" of that server, and now get the stack's main database instead. To create a second ` +
          `one: pulumi config set --path 'databases[0]' ${shellWord(name)}`,
      ]),
    [
      "by hand",
      byFile.length > 0
        ? `${byFile.join(", ")}: the service reads the login from a file, which the hand-over does not change`
        : undefined,
    ],
  ];
}

/** Returns the lines about scripts that must name the hand-over's Compose file. */
function launcherLines({ launchers, files }: ComposePlan, options: SummaryOptions): [string, string | undefined][] {
  if (launchers.length === 0) return [];
  const lines = launchers.slice(0, 3).map(({ file, line }) => `${file}:${line}`);
  const more = launchers.length > lines.length ? ` and ${launchers.length - lines.length} more` : "";
  const known = files.map((file) => relative(options.folder, file));
  const isKnown = (name: string) =>
    known.some((file) => name === file || name.endsWith(`/${file}`) || file.endsWith(`/${name}`));
  const others = [...new Set(launchers.flatMap(({ composeFiles }) => composeFiles))].filter((name) => !isKnown(name));
  return [
    [
      "launchers",
      `${lines.join(", ")}${more}: these lines pass files to docker compose, so it ignores COMPOSE_FILE. Append there: ` +
        `-f ${shellWord(options.overridePath)}`,
    ],
    [
      "",
      others.length > 0
        ? `They also name ${others.join(", ")}. If the application starts with those, list its files: pulumi config set --path ` +
          `'composeFiles[0]' FILE`
        : undefined,
    ],
  ];
}

/** Returns a line about variables of the user's shell, which docker compose prefers to those of the file. */
function environmentLines(
  variables: Readonly<Record<string, string>>,
  { environment }: SummaryOptions,
): [string, string | undefined][] {
  const set = Object.keys(variables).filter((name) => environment[name] && environment[name] !== variables[name]);
  if (set.length === 0) return [];
  return [["first", `unset ${set.join(" ")}   # the values of your shell override the file`]];
}
