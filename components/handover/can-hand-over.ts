/** Checks that the hand-over can be done, before the program creates anything. */
import { resolve } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { namesFor } from "../../lib/naming.ts";
import type { DatabasesSettings } from "../databases/settings.ts";
import type { PoolerSettings } from "../pooler/settings.ts";
import type { ServerSettings } from "../server/settings.ts";
import type { HandOverInputs } from "./handover.ts";
import { planHandOver } from "./plan.ts";
import { pooledHandOver } from "./pooled.ts";
import type { HandOverSettings } from "./settings.ts";

/** The settings of the stack that the check needs. */
export interface CanHandOverArgs {
  /** The stack's name, from which the names of the Docker objects are derived. */
  stack: string;
  /** Undefined if no application is configured; then nothing is checked. */
  handover: HandOverSettings | undefined;
  /** The stack's database. */
  database: string;
  /** Further databases in the same server. */
  databases: Pick<DatabasesSettings, "names">;
  /** The server's port, its sessions, and its engine. */
  server: Pick<ServerSettings, "port" | "maxConnections" | "dockerHost">;
  /** Undefined if the stack has no pooler. */
  pooler: PoolerSettings | undefined;
}

/** Returns the hand-over's inputs as far as they are known before the update; logins are placeholders. */
function inputsFrom(args: CanHandOverArgs, handover: HandOverSettings): HandOverInputs {
  const { stack, database, databases, server, pooler } = args;
  const { port, maxConnections, dockerHost } = server;
  const { network, container, image, alias, poolerAlias } = namesFor(stack);
  const poolerAccess = pooler && { ...pooler, alias: poolerAlias, databases: 1 + databases.names.length };
  const login = (database: string) => ({ database, user: "user", password: "password" });
  return {
    ...handover,
    stack,
    folder: resolve(handover.folder),
    composeFiles: [...handover.composeFiles],
    superuserServices: [...handover.superuserServices],
    superuser: login(database),
    network,
    alias,
    container,
    port,
    image,
    dockerHost,
    logins: {
      main: login(database),
      test: login(`${database}_test`),
      further: Object.fromEntries(databases.names.map((name) => [name, login(name)])),
    },
    maxConnections,
    pooled: pooledHandOver(handover, poolerAccess),
  };
}

/**
 * Plans the hand-over, which runs last, so that a problem stops the program before it migrates anything.
 * @throws {pulumi.RunError} with the problem and the remedy.
 */
export async function assertCanHandOver(args: CanHandOverArgs): Promise<void> {
  if (args.handover === undefined) return;
  try {
    await planHandOver(inputsFrom(args, args.handover), process.cwd());
  } catch (error) {
    throw new pulumi.RunError((error as Error).message);
  }
}
