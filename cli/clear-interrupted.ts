/** For script/up: clears what an update that was killed left in Pulumi's state. An update that runs keeps its lock. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Command } from "@commander-js/extra-typings";
import {
  backendFolder,
  hasEnded,
  here,
  type Lock,
  locksOf,
  pendingOperations,
  removeLock,
} from "../lib/interrupted.ts";
import { onStack } from "./support/subcommand.ts";

const PROJECT = "sectorwars-database";

const whose = ({ username, hostname, pid, timestamp }: Lock) =>
  `${username}@${hostname}, process ${pid}, since ${timestamp}`;

/**
 * Removes the locks of updates that have ended.
 * @throws {Error} while another update runs, or may run.
 */
async function clearLocks(backend: string, stack: string): Promise<void> {
  for (const [file, lock] of await locksOf(backend, PROJECT, stack)) {
    const ended = await hasEnded(lock, here());
    if (ended === undefined) {
      throw new Error(
        `The stack ${stack} is locked by an update elsewhere (${whose(lock)}). Wait for it to end; if it was killed: ` +
          `pulumi cancel --stack ${stack}, then try again.`,
      );
    }
    if (!ended) {
      throw new Error(
        `Another update of the stack ${stack} is running (${whose(lock)}). Wait for it to end, then try again. ` +
          `If that process is something else: pulumi cancel --stack ${stack}.`,
      );
    }
    await removeLock(file);
    console.error(`  an update was killed (${whose(lock)}): removed its lock`);
  }
}

/** Pulumi warns of them in every update, for it cannot know that whatever they made is found before it is made again. */
async function clearPending(backend: string, stack: string): Promise<void> {
  const pending = await pendingOperations(backend, PROJECT, stack);
  const [urn = ""] = pending;
  if (urn === "") return;
  // The refresh itself is not wanted, and concerns the stack's own entry alone, of which there is nothing to be asked.
  const target = `${urn.split("::").slice(0, 2).join("::")}::pulumi:pulumi:Stack::${PROJECT}-${stack}`;
  const refresh = ["refresh", "--clear-pending-creates", "--yes", "--skip-preview", "--non-interactive"];
  await promisify(execFile)("pulumi", [...refresh, "--stack", stack, "--target", target]).catch((error) => {
    throw new Error(
      `The notes of what a killed update was at cannot be cleared: ${error.stderr?.trim() || error.message}`,
    );
  });
  console.error(`  cleared the notes of what it was at: ${pending.map((each) => each.split("::").at(-1)).join(", ")}`);
}

/** Adds what `./db clear-interrupted` takes and does to its command. */
export default function clearInterrupted(command: Command): void {
  command
    .description(
      "Removes the lock of an update that was killed, and Pulumi's notes of what it was at. Fails while an update runs. Does nothing " +
        "where the state is not in a folder.",
    )
    .action(
      onStack(async ({ stack }) => {
        const backend = await backendFolder();
        if (backend === undefined) return 0;
        await clearLocks(backend, stack);
        await clearPending(backend, stack);
        return 0;
      }),
    );
}
