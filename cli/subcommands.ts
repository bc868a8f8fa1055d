/**
 * The subcommands of ./db by task, in the order of its help. CONTRIBUTING.md says how to add one.
 */
import type { Command } from "@commander-js/extra-typings";

/** A subcommand for ./db --help. Its file is loaded when it is called. */
export interface Subcommand {
  name: string;
  /** The task that the subcommand belongs to. Without one, the subcommand is hidden. */
  group?: string;
  summary: string;
  load: () => Promise<{ default: (command: Command) => void }>;
}

const INSPECT = "Inspect";
const CONNECT = "Connect";
const IMPORT = "Import and proof";
const EXPERIMENT = "Experiment";
const RECOVER = "Back up and recover";
const PROGRAM = "This program";

export const SUBCOMMANDS: readonly Subcommand[] = [
  {
    name: "status",
    group: INSPECT,
    summary: "show the state of server, import, roles and backups",
    load: () => import("./status.ts"),
  },
  {
    name: "doctor",
    group: INSPECT,
    summary: "find problems, and show the remedies",
    load: () => import("./doctor.ts"),
  },
  {
    name: "psql",
    group: CONNECT,
    summary: "open psql as one of the database's roles",
    load: () => import("./psql.ts"),
  },
  {
    name: "url",
    group: CONNECT,
    summary: "print the connection URL of a role, with its password",
    load: () => import("./url.ts"),
  },
  {
    name: "certificates",
    group: CONNECT,
    summary: "show and renew the certificate of a server with TLS",
    load: () => import("./certificates.ts"),
  },
  {
    name: "preflight",
    group: IMPORT,
    summary: "check what would stop an import, without importing",
    load: () => import("./preflight.ts"),
  },
  { name: "report", group: IMPORT, summary: "open the proof of the import", load: () => import("./report.ts") },
  {
    name: "verify",
    group: IMPORT,
    summary: "compare the database with its source again",
    load: () => import("./verify.ts"),
  },
  {
    name: "refresh",
    group: IMPORT,
    summary: "import again, and replace the current data",
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
    summary: "list, verify and restore safety copies of the source",
    load: () => import("./safety-copy.ts"),
  },
  {
    name: "snapshot",
    group: EXPERIMENT,
    summary: "save the database under a name, and restore it",
    load: () => import("./snapshot.ts"),
  },
  {
    name: "branch",
    group: EXPERIMENT,
    summary: "create writable copies of the database",
    load: () => import("./branch.ts"),
  },
  { name: "reset", group: EXPERIMENT, summary: "restore the data as imported", load: () => import("./reset.ts") },
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
    summary: "restore the server to an earlier time",
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
  { name: "complete", summary: "print candidates for the completion scripts", load: () => import("./complete.ts") },
  {
    name: "clear-interrupted",
    summary: "clear what a killed update left, for script/up",
    load: () => import("./clear-interrupted.ts"),
  },
];
