/** `./db url`: prints the connection URL of a role. */
import { type Command, Option } from "@commander-js/extra-typings";
import { POOLER_PORT } from "../components/pooler/configuration.ts";
import { namesFor } from "../lib/naming.ts";
import { libpqTlsHere } from "../lib/server-tls.ts";
import { shellWord } from "../lib/shell-word.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { UsageError } from "./support/errors.ts";
import { roleOption, urlOf } from "./support/role-urls.ts";
import { addExamples, onStack, value } from "./support/subcommand.ts";

/** SQLAlchemy's names of drivers in a URL's scheme. */
const DRIVERS = ["none", "psycopg2", "psycopg", "asyncpg"] as const;

/** Options of {@link rewriteUrl}. */
interface UrlOptions {
  driver: (typeof DRIVERS)[number];
  /** Host and port to put into the URL; undefined for those of the server on this machine. */
  inside?: { host: string; port: number };
}

/** What the options say about the way to the server. */
interface Way {
  inNetwork?: true;
  pooled?: true;
}

/**
 * Returns the host and port that the options ask for; undefined for those of the server on this machine.
 * @throws {UsageError} if the stack has no pooler, or the role cannot use it.
 */
export function placeFor(
  { stack, pooler }: Pick<StackOutputs, "stack" | "pooler">,
  role: string,
  { inNetwork, pooled }: Way,
): UrlOptions["inside"] {
  const { alias, poolerAlias } = namesFor(stack);
  if (!pooled) return inNetwork ? { host: alias, port: 5432 } : undefined;
  if (pooler === undefined) {
    throw new UsageError(`The stack ${stack} has no pooler. To add one: pulumi config set pooler true, then pulumi up`);
  }
  if (role === "superuser") {
    throw new UsageError("The pooler does not admit the superuser. Leave out --pooled, or choose another role.");
  }
  return inNetwork ? { host: poolerAlias, port: POOLER_PORT } : { host: "127.0.0.1", port: pooler.port };
}

/** Returns a URL with another driver, or another host and port. The rest stays byte for byte. */
export function rewriteUrl(url: string, { driver, inside }: UrlOptions): string {
  const scheme = driver === "none" ? "postgresql" : `postgresql+${driver}`;
  const withHost = inside ? url.replace(/@[^@/]*\//, `@${inside.host}:${inside.port}/`) : url;
  return withHost.replace(/^postgresql:/, `${scheme}:`);
}

/** Configures the command `./db url`. */
export default function url(command: Command): void {
  command
    .description(
      "Prints the connection URL of a role, with its password: for a variable, a file that git ignores, or a client's settings. " +
        "pulumi stack output urls shows the URLs without passwords.",
    )
    .addOption(roleOption("app"))
    .option("--database <name>", "a further database of the stack", value)
    .option("--in-network", "print the URL for containers in the stack's network")
    .option("--pooled", "print the URL through the pooler (docs/pooler.md)")
    .addOption(
      new Option("--driver <driver>", "the SQLAlchemy driver in the URL's scheme")
        .choices(DRIVERS)
        .default("none" as const),
    )
    .action(
      onStack(async ({ stack, print }, { role, database, inNetwork, pooled, driver }) => {
        const outputs = await readStack(stack);
        const { urls, databaseUrls = {}, authority } = outputs;
        const isOwn = database === undefined || database === addressOf(urlOf(urls, role)).database;
        const ofDatabase = isOwn ? urls : databaseUrls[database];
        if (ofDatabase === undefined) {
          const known = Object.keys(databaseUrls).join(", ");
          throw new UsageError(
            `The stack ${stack} has no further database ${database}. ${known ? `Choose one of: ${known}.` : "It has no further databases."}`,
          );
        }
        const inside = placeFor(outputs, role, { inNetwork, pooled });
        const url = rewriteUrl(urlOf(ofDatabase, role), { driver, inside });
        const { host, port, user, database: name } = addressOf(url);
        const tls = authority === undefined ? {} : libpqTlsHere(stack, authority);
        print(url, { url, role, host, port, user, database: name, ...tls });
        // A parameter in the URL would not suit every driver: SQLAlchemy with asyncpg refuses sslmode.
        const variables = Object.entries<string>(tls).map(([variable, value]) => `${variable}=${shellWord(value)}`);
        if (process.stdout.isTTY && variables.length > 0) {
          console.error(`The server accepts only TLS. To verify it: export ${variables.join(" ")}`);
        }
        return 0;
      }),
    );
  addExamples(command, {
    url: "print the URL for the application on this machine",
    "url --role owner --driver psycopg2": "print the URL for Alembic",
    "url --in-network": "print the URL for a service in Docker Compose",
    "url --pooled": "print the URL through the pooler",
  });
}
