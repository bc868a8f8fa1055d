/** `./db branch`: copies of the database that can be written, for feature branches and test runs. */
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

/** Roles that use a branch; the superuser needs no URL of one. */
const ROLES = ["owner", "app", "readonly"] as const;
type Role = (typeof ROLES)[number];

/**
 * A branch's URL: the stack's own, with the branch's database.
 * @param isInNetwork for containers in the stack's network.
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
  print(lines.join("\n") || "There are no branches. Make one: ./db branch create NAME", all);
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

async function tellUrl(
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
  const who = sessions === 0 ? "" : ` Sessions that are connected to it end: ${sessions}.`;
  if (!(await confirm(yes, `This deletes the branch ${name} for good, with ${humanBytes(bytes)} of data.${who}`)))
    return 1;
  await deleteBranch(place, name);
  print(`Deleted ${name}.`, { deleted: name });
  return 0;
}

/** Adds what `./db branch` takes and does to its command. */
export default function branch(command: Command): void {
  command.description(
    "Makes copies of the database in the same server, in the time that a snapshot takes, with the same roles, passwords and grants: for " +
      "a feature branch, or a test run beside others. What is written in one is in no other. A branch that is made of the database itself " +
      "ends connections there as a snapshot does; one that is made of a snapshot disturbs nobody.",
  );
  command
    .command("create")
    .description("Makes a branch.")
    .argument("<name>", "the new branch")
    .option("--from <snapshot>", "the snapshot to begin from; the database as it is now by default", value)
    .addOption(forceOption())
    .action(onStack(create));
  command.command("list").description("Lists the branches, with their sizes.").action(onStack(list));
  command
    .command("url")
    .description("Prints the connection URL of a branch, with its password.")
    .argument("<name>", "the branch")
    .addOption(new Option("--role <role>", "the role to connect as").choices(ROLES).default("app" as const))
    .option("--in-network", "the URL for containers in the stack's network")
    .action(onStack(tellUrl));
  command
    .command("delete")
    .description("Deletes a branch.")
    .argument("<name>", "the branch")
    .addOption(yesOption())
    .action(onStack(remove));
  addExamples(command, {
    "branch create trading": "a copy of the database",
    "branch url trading --role owner": "for the migrations of a feature branch",
    "branch create test-2 --from imported": "of a snapshot",
    "branch delete trading": "frees its room",
  });
}
