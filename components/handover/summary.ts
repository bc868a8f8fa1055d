/** What a hand-over has done, in one short list. Pure. */
import { relative } from "node:path";
import { shellWord } from "../../lib/shell-word.ts";
import type { ComposePlan, Plan } from "./plan.ts";

/** What is told besides the plan. */
export interface SummaryOptions {
  folder: string;
  stack: string;
  /** The application's file of variables, and the Compose file over its own. */
  envPath: string;
  overridePath: string;
  isLocal: boolean;
  service: string;
  port: number;
  /** Variables of this process, which win over the file's. */
  environment: NodeJS.ProcessEnv;
}

/** Names as a list, or what stands for none. */
const listed = (names: readonly string[]): string | undefined => (names.length > 0 ? names.join(", ") : undefined);

/** Returns the list, ready to be printed. */
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
  const { service, port, isLocal } = options;
  const described = Object.entries(redirects.services)
    .filter(([, { isUser }]) => isUser)
    .map(([name, { view, isSuperuser }]) => {
      const how = [
        ...(view === "host" && isLocal ? [`at 127.0.0.1:${port}`] : []),
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
        `services also use a database "${name}" of that server, and are led to the one there is. To give them another: pulumi ` +
          `config set --path 'databases[0]' ${shellWord(name)}`,
      ]),
    [
      "by hand",
      byFile.length > 0
        ? `${byFile.join(", ")}: the login is read from a file, which the hand-over leaves alone`
        : undefined,
    ],
  ];
}

/** Scripts that have to name the override. */
function launcherLines({ launchers, files }: ComposePlan, options: SummaryOptions): [string, string | undefined][] {
  if (launchers.length === 0) return [];
  const places = launchers.slice(0, 3).map(({ file, line }) => `${file}:${line}`);
  const more = launchers.length > places.length ? ` and ${launchers.length - places.length} more` : "";
  const known = files.map((file) => relative(options.folder, file));
  const isKnown = (name: string) =>
    known.some((file) => name === file || name.endsWith(`/${file}`) || file.endsWith(`/${name}`));
  const others = [...new Set(launchers.flatMap(({ composeFiles }) => composeFiles))].filter((name) => !isKnown(name));
  return [
    [
      "launchers",
      `${places.join(", ")}${more}: docker compose is given files there, so it ignores COMPOSE_FILE. Append there: ` +
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

/** Variables of the user's own shell that docker compose prefers to the file's. */
function environmentLines(
  variables: Readonly<Record<string, string>>,
  { environment }: SummaryOptions,
): [string, string | undefined][] {
  const set = Object.keys(variables).filter((name) => environment[name] && environment[name] !== variables[name]);
  if (set.length === 0) return [];
  return [["first", `unset ${set.join(" ")}   # your shell's values win over the file's`]];
}
