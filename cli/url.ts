/** `./db url`: prints the connection URL of a role. */
import { type Command, Option } from "@commander-js/extra-typings";
import { namesFor } from "../lib/naming.ts";
import { libpqTlsHere } from "../lib/server-tls.ts";
import { shellWord } from "../lib/shell-word.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { UsageError } from "./support/errors.ts";
import { roleOption, urlOf } from "./support/role-urls.ts";
import { addExamples, onStack, value } from "./support/subcommand.ts";

/** SQLAlchemy's names of drivers in a URL's scheme. */
const DRIVERS = ["none", "psycopg2", "psycopg", "asyncpg"] as const;

/** Options of {@link rewriteUrl}. */
interface UrlOptions {
  driver: (typeof DRIVERS)[number];
  /** Host and port inside the stack's network; undefined for those of this machine. */
  inside?: { host: string; port: number };
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
    .addOption(
      new Option("--driver <driver>", "the SQLAlchemy driver in the URL's scheme")
        .choices(DRIVERS)
        .default("none" as const),
    )
    .action(
      onStack(async ({ stack, print }, { role, database, inNetwork, driver }) => {
        const { urls, databaseUrls = {}, authority } = await readStack(stack);
        const isOwn = database === undefined || database === addressOf(urlOf(urls, role)).database;
        const ofDatabase = isOwn ? urls : databaseUrls[database];
        if (ofDatabase === undefined) {
          const known = Object.keys(databaseUrls).join(", ");
          throw new UsageError(
            `The stack ${stack} has no further database ${database}. ${known ? `Choose one of: ${known}.` : "It has no further databases."}`,
          );
        }
        const inside = inNetwork ? { host: namesFor(stack).alias, port: 5432 } : undefined;
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
  });
}
