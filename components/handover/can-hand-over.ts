/** Looks whether the hand-over can be done, before the program makes anything. */
import { resolve } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { namesFor } from "../../lib/naming.ts";
import type { HandOverInputs } from "./handover.ts";
import { planHandOver } from "./plan.ts";
import type { HandOverSettings } from "./settings.ts";

/** What the look needs to know of the stack. */
export interface CanHandOverArgs {
  /** The stack's name; the Docker objects' names follow from it. */
  stack: string;
  /** Undefined where no application is named: then nothing is looked at. */
  handover: HandOverSettings | undefined;
  database: string;
  /** Further databases in the same server. */
  databases: readonly string[];
  /** Port on 127.0.0.1. */
  port: number;
  maxConnections: number;
  dockerHost: string | undefined;
}

/** What is known of the hand-over's inputs before anything is there; in place of a login stands another. */
function inputsFrom(args: CanHandOverArgs, handover: HandOverSettings): HandOverInputs {
  const { stack, database, databases, port, maxConnections, dockerHost } = args;
  const { network, container, image, alias } = namesFor(stack);
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
      further: Object.fromEntries(databases.map((name) => [name, login(name)])),
    },
    maxConnections,
  };
}

/**
 * Works out the hand-over, which comes last, so that what is in its way stops the program before it has migrated anything.
 * @throws {pulumi.RunError} that says what is in the way, and the remedy.
 */
export async function assertCanHandOver(args: CanHandOverArgs): Promise<void> {
  if (args.handover === undefined) return;
  try {
    await planHandOver(inputsFrom(args, args.handover), process.cwd());
  } catch (error) {
    throw new pulumi.RunError((error as Error).message);
  }
}
