/**
 * The subcommands of ./db by task, in the order of its help. To add one: an entry here, and a file of that name beside this one whose
 * default export adds the description, arguments, options and action to commander's command (status.ts is a plain example).
 */
import type { Command } from "@commander-js/extra-typings";

/** A subcommand, as far as ./db --help shows it. Its file is loaded when it is called. */
export interface Subcommand {
  name: string;
  /** The task that it belongs to; hidden without one. */
  group?: string;
  summary: string;
  load: () => Promise<{ default: (command: Command) => void }>;
}

const LOOK = "See how it is";
const CONNECT = "Connect";
const IMPORT = "Import and proof";
const EXPERIMENT = "Experiment";
const RECOVER = "Back up and recover";
const PROGRAM = "This program";

export const SUBCOMMANDS: readonly Subcommand[] = [
  {
    name: "status",
    group: LOOK,
    summary: "how the database is: server, import, roles, backups",
    load: () => import("./status.ts"),
  },
  { name: "doctor", group: LOOK, summary: "what is wrong, and what to do about it", load: () => import("./doctor.ts") },
  {
    name: "psql",
    group: CONNECT,
    summary: "a prompt on the database, as one of its roles",
    load: () => import("./psql.ts"),
  },
  {
    name: "url",
    group: CONNECT,
    summary: "the connection URL of a role, with its password",
    load: () => import("./url.ts"),
  },
  {
    name: "preflight",
    group: IMPORT,
    summary: "what would stop an import, without importing",
    load: () => import("./preflight.ts"),
  },
  { name: "report", group: IMPORT, summary: "the proof of the import, as a page", load: () => import("./report.ts") },
  {
    name: "verify",
    group: IMPORT,
    summary: "compare the database with its source again",
    load: () => import("./verify.ts"),
  },
  {
    name: "refresh",
    group: IMPORT,
    summary: "import again, in the place of the data of today",
    load: () => import("./refresh.ts"),
  },
  {
    name: "adopt",
    group: IMPORT,
    summary: "import the data of the application's own Docker volume",
    load: () => import("./adopt.ts"),
  },
  {
    name: "safety-copy",
    group: IMPORT,
    summary: "list, verify and restore the encrypted copies of the source",
    load: () => import("./safety-copy.ts"),
  },
  {
    name: "snapshot",
    group: EXPERIMENT,
    summary: "save the database under a name, and bring it back",
    load: () => import("./snapshot.ts"),
  },
  {
    name: "branch",
    group: EXPERIMENT,
    summary: "make copies of the database to write in",
    load: () => import("./branch.ts"),
  },
  { name: "reset", group: EXPERIMENT, summary: "bring back the data as imported", load: () => import("./reset.ts") },
  {
    name: "migrations",
    group: EXPERIMENT,
    summary: "show the schema's revision, or undo the last migrations",
    load: () => import("./migrations.ts"),
  },
  {
    name: "backup",
    group: RECOVER,
    summary: "make a backup now, list backups, make a portable copy",
    load: () => import("./backup.ts"),
  },
  {
    name: "restore",
    group: RECOVER,
    summary: "bring the server back to an earlier moment",
    load: () => import("./restore.ts"),
  },
  {
    name: "drill",
    group: RECOVER,
    summary: "prove that the newest backup can be restored",
    load: () => import("./drill.ts"),
  },
  {
    name: "completion",
    group: PROGRAM,
    summary: "print the completion script of a shell",
    load: () => import("./completion.ts"),
  },
  { name: "help", group: PROGRAM, summary: "show the help of a subcommand", load: () => import("./help.ts") },
  { name: "complete", summary: "candidates for the completion scripts", load: () => import("./complete.ts") },
  {
    name: "clear-interrupted",
    summary: "what script/up clears after an update was killed",
    load: () => import("./clear-interrupted.ts"),
  },
];
