/** `./db branch`: writable copies of the database, for feature branches and test runs. */
import { type Command, Option } from "@commander-js/extra-typings";
import {
  branchDatabase,
  createBranch,
  deleteBranch,
  findBranch,
  readBranches,
} from "../components/branches/branches.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import { namesFor } from "../lib/naming.ts";
import { readStack, type StackOutputs } from "../lib/stack.ts";
import { forceOption, placeOf } from "./snapshot.ts";
import { confirm, yesOption } from "./support/confirm.ts";
import { addExamples, type Invocation, onStack, value } from "./support/subcommand.ts";
import { rewriteUrl } from "./url.ts";

/** Roles that use a branch. The superuser needs no URL. */
const ROLES = ["owner", "app", "readonly"] as const;
type Role = (typeof ROLES)[number];

/**
 * Returns a branch's URL: the stack's own URL with the branch's database.
 * @param isInNetwork whether the URL is for containers in the stack's network.
 */
export function branchUrl(
  { stack, urls }: Pick<StackOutputs, "stack" | "urls">,
  name: string,
  role: Role,
  isInNetwork: boolean,
): string {
  const inside = isInNetwork ? { host: namesFor(stack).alias, port: 5432 } : undefined;
  const url = new URL(rewriteUrl(urls[role] ?? "", { driver: "none", ...(inside && { inside }) }));
  url.pathname = `/${branchDatabase(name)}`;
  return url.href;
}

async function list({ stack, print }: Invocation): Promise<number> {
  const all = await readBranches(placeOf(await readStack(stack)));
  const lines = all.map(
    ({ name, madeAt, bytes, sessions, from }) =>
      `  ${name.padEnd(40)} ${madeAt}  ${humanBytes(bytes).padStart(9)}  ${sessions} connections` +
      `${from === null ? "" : `  from ${from}`}`,
  );
  print(lines.join("\n") || "There are no branches. To create one: ./db branch create NAME", all);
  return 0;
}

async function create(
  { stack, print }: Invocation,
  name: string,
  options: { from?: string; force?: true },
): Promise<number> {
  const place = placeOf(await readStack(stack));
  const begin = Date.now();
  const branch = await createBranch(place, name, options);
  const seconds = Math.round((Date.now() - begin) / 100) / 10;
  const words = `Created ${name}, ${humanBytes(branch.bytes)}, in ${seconds} s. Its URL:  ./db branch url ${name}`;
  print(words, { ...branch, seconds });
  return 0;
}

async function printUrl(
  { stack, print }: Invocation,
  name: string,
  { role, inNetwork }: { role: Role; inNetwork?: true },
): Promise<number> {
  const outputs = await readStack(stack);
  findBranch(await readBranches(placeOf(outputs)), name);
  const url = branchUrl(outputs, name, role, inNetwork === true);
  print(url, { url });
  return 0;
}

async function remove({ stack, print }: Invocation, name: string, { yes }: { yes?: true }): Promise<number> {
  const place = placeOf(await readStack(stack));
  const { bytes, sessions } = findBranch(await readBranches(place), name);
  const who = sessions === 0 ? "" : ` ${sessions} connected ${sessions === 1 ? "session" : "sessions"} will be ended.`;
  if (!(await confirm(yes, `This permanently deletes the branch ${name} with ${humanBytes(bytes)} of data.${who}`)))
    return 1;
  await deleteBranch(place, name);
  print(`Deleted ${name}.`, { deleted: name });
  return 0;
}

/** Configures the command `./db branch`. */
export default function branch(command: Command): void {
  command.description(
    "Creates writable copies of the database in the same server, as fast as a snapshot, with the same roles, passwords and grants: for " +
      "a feature branch, or for parallel test runs. Changes in one branch do not appear in any other. Creating a branch from the database " +
      "itself ends the connections to it, as a snapshot does; creating one from a snapshot does not.",
  );
  command
    .command("create")
    .description("Creates a branch.")
    .argument("<name>", "the new branch")
    .option("--from <snapshot>", "the snapshot to copy (default: the current database)", value)
    .addOption(forceOption())
    .action(onStack(create));
  command.command("list").description("Lists the branches, with their sizes.").action(onStack(list));
  command
    .command("url")
    .description("Prints the connection URL of a branch, with its password.")
    .argument("<name>", "the branch")
    .addOption(new Option("--role <role>", "the role to connect as").choices(ROLES).default("app" as const))
    .option("--in-network", "the URL for containers in the stack's network")
    .action(onStack(printUrl));
  command
    .command("delete")
    .description("Deletes a branch.")
    .argument("<name>", "the branch")
    .addOption(yesOption())
    .action(onStack(remove));
  addExamples(command, {
    "branch create trading": "copy the database",
    "branch url trading --role owner": "print the URL for migrations of a feature branch",
    "branch create test-2 --from imported": "copy a snapshot",
    "branch delete trading": "delete the copy",
  });
}
