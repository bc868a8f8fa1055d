/** Computes the variables for the application's .env file. Pure. */
import type { Service } from "./compose-project.ts";
import { driverOf, redirectVariables, withDriver } from "./connection-values.ts";
import { type DatabaseNames, redirectionFor } from "./database-names.ts";
import { entriesOf, valuesOf } from "./env-values.ts";
import { type ServiceTarget, urlVariables } from "./redirection.ts";

/** The file that gets the variables. */
export interface EnvFile {
  /** The file without the block. */
  text: string;
  /** Whether the file's own DATABASE_URL is the right one and stays unchanged. */
  keepsUrl: boolean;
  /** Variables of this process, to resolve references. */
  environment: NodeJS.ProcessEnv;
  /** The application's own database service, whose login the file may contain. */
  database: Service | undefined;
}

/** The variables that the block sets. */
export interface FileVariables {
  /** The variables that every application gets. */
  usual: Record<string, string>;
  /** The file's own variables that would otherwise still point to the replaced database. */
  further: Record<string, string>;
}

/** Returns the variables of the block. A value that refers to another variable stays, because it resolves to the new value. */
export function blockVariables(
  { text, keepsUrl, environment, database }: EnvFile,
  names: DatabaseNames,
  target: ServiceTarget,
): FileVariables {
  const own = valuesOf(text, environment);
  const redirection = redirectionFor(names, "machine", target, database);
  const direct = target.pooler?.directEndpointsFor("machine");
  const urls = urlVariables(target.endpointsFor("machine"), target, own.DATABASE_URL, direct);
  const { DATABASE_URL, ...others } = urls;
  const usual: Record<string, string> = { ...(keepsUrl ? {} : { DATABASE_URL }), ...others, ...target.pools };
  const further: Record<string, string> = {};
  if (keepsUrl) return { usual, further };
  const named = redirectVariables(own, redirection).DATABASE_URL;
  if (named !== undefined && target.remoteUrl === undefined)
    usual.DATABASE_URL = withDriver(named, target.driver || driverOf(own.DATABASE_URL));
  const rest = entriesOf(text)
    .filter(({ key }) => key === undefined || !Object.hasOwn(usual, key))
    .map((entry) => entry.text);
  const block = Object.entries(usual).map(([key, value]) => `${key}='${value}'\n`);
  const now = valuesOf([...block, ...rest].join(""), environment);
  for (const [name, value] of Object.entries(redirectVariables(now, redirection))) {
    // An .env file cannot hold such a value; the services still get it from the Compose file.
    const isPlain = !/['\n]/.test(value);
    if (now[name] !== value && !Object.hasOwn(usual, name) && isPlain) further[name] = value;
  }
  return { usual, further };
}
