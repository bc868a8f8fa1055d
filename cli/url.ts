/** `./db url`: the connection URL of a role, for whatever wants to connect. */
import { type Command, Option } from "@commander-js/extra-typings";
import { namesFor } from "../lib/naming.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { UsageError } from "./support/errors.ts";
import { roleOption, urlOf } from "./support/role-urls.ts";
import { addExamples, onStack, value } from "./support/subcommand.ts";

/** Drivers by the names that SQLAlchemy has for them in a URL's scheme. */
const DRIVERS = ["none", "psycopg2", "psycopg", "asyncpg"] as const;

/** What a URL is wanted for. */
interface UrlOptions {
  driver: (typeof DRIVERS)[number];
  /** Host and port as the stack's network has them; undefined for those of this machine. */
  inside?: { host: string; port: number };
}

/** Writes a URL for another driver, or for another place to connect from. Everything else stays as it is, byte for byte. */
export function rewriteUrl(url: string, { driver, inside }: UrlOptions): string {
  const scheme = driver === "none" ? "postgresql" : `postgresql+${driver}`;
  const placed = inside ? url.replace(/@[^@/]*\//, `@${inside.host}:${inside.port}/`) : url;
  return placed.replace(/^postgresql:/, `${scheme}:`);
}

/** Adds what `./db url` takes and does to its command. */
export default function url(command: Command): void {
  command
    .description(
      "Prints the connection URL of a role, with its password: for a variable, a file that git ignores, or a client's settings. " +
        "pulumi stack output urls shows the same without the passwords.",
    )
    .addOption(roleOption("app"))
    .option("--database <name>", "one of the stack's further databases", value)
    .option("--in-network", "the URL for containers in the stack's network")
    .addOption(
      new Option("--driver <driver>", "the SQLAlchemy driver in the URL's scheme")
        .choices(DRIVERS)
        .default("none" as const),
    )
    .action(
      onStack(async ({ stack, print }, { role, database, inNetwork, driver }) => {
        const { urls, databaseUrls = {} } = await readStack(stack);
        const isOwn = database === undefined || database === addressOf(urlOf(urls, role)).database;
        const ofDatabase = isOwn ? urls : databaseUrls[database];
        if (ofDatabase === undefined) {
          const known = Object.keys(databaseUrls).join(", ");
          throw new UsageError(
            `The stack ${stack} has no further database ${database}. ${known ? `Choose ${known}.` : "It has none."}`,
          );
        }
        const inside = inNetwork ? { host: namesFor(stack).alias, port: 5432 } : undefined;
        const url = rewriteUrl(urlOf(ofDatabase, role), { driver, inside });
        const { host, port, user, database: name } = addressOf(url);
        print(url, { url, role, host, port, user, database: name });
        return 0;
      }),
    );
  addExamples(command, {
    url: "for the application, on this machine",
    "url --role owner --driver psycopg2": "for Alembic on SQLAlchemy",
    "url --in-network": "for a service in Docker Compose",
  });
}
