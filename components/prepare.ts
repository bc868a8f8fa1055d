/** What the program does before it creates anything. */
import * as pulumi from "@pulumi/pulumi";
import { assertCanHandOver } from "./handover/can-hand-over.ts";
import { keepSecretsPrivate } from "./private-places.ts";
import { readSettings, type Settings } from "./settings.ts";

/**
 * Reads the settings, makes the files with secrets private, and checks that the hand-over can be done.
 * @throws {pulumi.RunError} with every wrong setting, or with the problem that prevents the hand-over.
 */
export async function prepareUpdate(): Promise<Settings> {
  const settings = await readSettings();
  for (const warning of settings.warnings) await pulumi.log.warn(warning);
  keepSecretsPrivate(settings);
  await assertCanHandOver(settings);
  return settings;
}
