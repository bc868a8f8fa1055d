/** Builds the command that starts an application's services. Pure. */
import { shellWord } from "../../lib/shell-word.ts";
import type { Project } from "./compose-project.ts";
import type { Redirects } from "./redirection.ts";

/** Common names of profiles for development. */
const USUAL = /^(dev(elopment)?|local|default|app|all|full)$/i;

/**
 * Chooses the profile that starts the services which use the database.
 * @param active the profiles that the application's own variables activate.
 * @returns undefined if the services start without another profile.
 */
export function profileFor(
  project: Project,
  { services }: Redirects,
  active: readonly string[] = [],
): string | undefined {
  const users = Object.keys(services).filter((name) => services[name]?.isUser);
  const profilesOf = (name: string) => project.services[name]?.profiles ?? [];
  if (users.some((name) => isActive(profilesOf(name), active))) return undefined;
  const profiles = [...new Set(users.flatMap(profilesOf))].map((profile) => ({
    profile,
    isUsual: USUAL.test(profile),
    count: users.filter((name) => profilesOf(name).includes(profile)).length,
  }));
  const order = profiles.toSorted((a, b) => Number(b.isUsual) - Number(a.isUsual) || b.count - a.count);
  return order[0]?.profile;
}

/**
 * Counts the replicas of the services that use the database and run at the same time. Services that others wait to complete are not
 * counted, because they have exited by then.
 */
export function activeUsers(project: Project, { services }: Redirects, profiles: readonly string[]): number {
  const ending = Object.values(project.services).flatMap(({ dependsOn }) =>
    Object.keys(dependsOn).filter((on) => dependsOn[on]?.condition === "service_completed_successfully"),
  );
  return Object.entries(services)
    .filter(([name, { isUser }]) => isUser && !ending.includes(name))
    .filter(([name]) => isActive(project.services[name]?.profiles, profiles))
    .reduce((sum, [name]) => sum + (project.services[name]?.replicas ?? 1), 0);
}

const isActive = (own: readonly string[] = [], chosen: readonly string[]): boolean =>
  own.length === 0 || chosen.includes("*") || own.some((profile) => chosen.includes(profile));

/** The parts of the command. */
export interface StartOptions {
  folder: string;
  /** The words that call docker compose. */
  compose: readonly string[];
  /** Env files that must be passed to docker compose. */
  envFiles: readonly string[];
  profile: string | undefined;
  /** The Docker engine, if it must be passed to docker compose. */
  engine: string | undefined;
}

/** Returns the command; it works in any working directory. */
export function startCommand({ folder, compose, envFiles, profile, engine }: StartOptions): string {
  const words = [
    ...compose,
    ...envFiles.flatMap((file) => ["--env-file", file]),
    ...(profile === undefined ? [] : ["--profile", profile]),
    "up",
    "--wait",
  ];
  const host = engine === undefined ? "" : `DOCKER_HOST=${shellWord(engine)} `;
  return `cd ${shellWord(folder)} && ${host}${words.map(shellWord).join(" ")}`;
}
