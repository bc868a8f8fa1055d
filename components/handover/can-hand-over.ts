/** Looks whether the hand-over can be done, before the program makes anything. */
import { resolve } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { namesFor } from "../server/naming.ts";
import type { Settings } from "../settings.ts";
import type { HandOverInputs } from "./handover.ts";
import { planHandOver } from "./plan.ts";

/** What is known of the hand-over's inputs before anything is there; in place of a login stands another. */
function inputsFrom(settings: Settings, handover: NonNullable<Settings["handover"]>): HandOverInputs {
  const { stack, database, databases, port, maxConnections, dockerHost } = settings;
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
export async function assertCanHandOver(settings: Settings): Promise<void> {
  if (settings.handover === undefined) return;
  try {
    await planHandOver(inputsFrom(settings, settings.handover), process.cwd());
  } catch (error) {
    throw new pulumi.RunError((error as Error).message);
  }
}
