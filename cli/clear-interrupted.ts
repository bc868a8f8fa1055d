/** For script/up: clears what a killed update left in Pulumi's state. A running update keeps its lock. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Command } from "@commander-js/extra-typings";
import { backendFolder } from "../lib/backend.ts";
import { hasEnded, here, type Lock, locksOf, pendingOperations, removeLock } from "../lib/interrupted.ts";
import { onStack } from "./support/subcommand.ts";

const PROJECT = "sectorwars-database";

const whose = ({ username, hostname, pid, timestamp }: Lock) =>
  `${username}@${hostname}, process ${pid}, since ${timestamp}`;

/**
 * Removes the locks of updates that have ended.
 * @throws {Error} if another update is running, or may be running.
 */
async function clearLocks(backend: string, stack: string): Promise<void> {
  for (const [file, lock] of await locksOf(backend, PROJECT, stack)) {
    const ended = await hasEnded(lock, here());
    if (ended === undefined) {
      throw new Error(
        `The stack ${stack} is locked by an update of another user or machine (${whose(lock)}). Wait for it to end; if it was killed: ` +
          `pulumi cancel --stack ${stack}, then try again.`,
      );
    }
    if (!ended) {
      throw new Error(
        `Another update of the stack ${stack} is running (${whose(lock)}). Wait for it to end, then try again. ` +
          `If that process is another program: pulumi cancel --stack ${stack}.`,
      );
    }
    await removeLock(file);
    console.error(`  an update was killed (${whose(lock)}): removed its lock`);
  }
}

/** Removes pending operations. Pulumi would warn about them in every update, although the program finds what they created. */
async function clearPending(backend: string, stack: string): Promise<void> {
  const pending = await pendingOperations(backend, PROJECT, stack);
  const [urn = ""] = pending;
  if (urn === "") return;
  // The target is the stack's own resource, which has nothing to refresh, so that the command only clears pending operations.
  const target = `${urn.split("::").slice(0, 2).join("::")}::pulumi:pulumi:Stack::${PROJECT}-${stack}`;
  const refresh = ["refresh", "--clear-pending-creates", "--yes", "--skip-preview", "--non-interactive"];
  await promisify(execFile)("pulumi", [...refresh, "--stack", stack, "--target", target]).catch((error) => {
    throw new Error(
      `Pulumi cannot clear the pending operations of a killed update: ${error.stderr?.trim() || error.message}`,
    );
  });
  console.error(`  cleared its pending operations: ${pending.map((each) => each.split("::").at(-1)).join(", ")}`);
}

/** Configures the command `./db clear-interrupted`. */
export default function clearInterrupted(command: Command): void {
  command
    .description(
      "Removes the lock and the pending operations of a killed update from Pulumi's state. Fails while an update is running. Does " +
        "nothing if the state is not in a folder.",
    )
    .action(
      onStack(async ({ stack }) => {
        const backend = backendFolder();
        if (backend === undefined) return 0;
        await clearLocks(backend, stack);
        await clearPending(backend, stack);
        return 0;
      }),
    );
}
