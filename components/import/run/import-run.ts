/** What the phases of an import share. */
import type pg from "pg";
import type { ServerState } from "../compare/server-state.ts";
import type { Progress } from "../progress.ts";
import type { SafetyCopy } from "../safety-copy/safety-copy.ts";
import type { MonitorTimeouts } from "../session/connection-monitor.ts";
import type { ImportSpec, Report, Table } from "../types.ts";
import type { ImportScope } from "./import-scope.ts";

/** Phases in order. Tests end the process in each of them. */
export const PHASES = [
  "preflight",
  "snapshot",
  "schema",
  "rows",
  "constraints",
  "sequences",
  "compare",
  "swap",
] as const;
/** One of {@link PHASES}. */
export type Phase = (typeof PHASES)[number];

/** Callbacks of a running import. */
export interface ImportHooks {
  /** Shows a progress line. */
  say: (line: string) => void;
  /** Called when a phase begins. */
  onPhase?: (phase: Phase) => Promise<void>;
  /** Called when a table's rows are loaded, before they are compared. */
  onLoaded?: (table: Table) => Promise<void>;
  /** Called after the swap. */
  onSwapped?: () => Promise<void>;
  /** Timeouts of the connection monitor; tests use shorter ones. */
  monitorTimeouts?: Partial<MonitorTimeouts>;
}

/** A running import, as its phases see it. */
export interface ImportRun {
  spec: ImportSpec;
  /** Reports and announces a phase; the result ends its measurement. */
  enter: (phase: Phase, line: string) => Promise<() => number>;
  progress: Progress;
  report: Report;
  scope: ImportScope;
  /** The session that holds the import's advisory lock, in the target's own database `postgres`. */
  lockSession: pg.Client;
  hooks: ImportHooks;
  /** The encrypted copy that is made of the same bytes; undefined if none is wanted. */
  safetyCopy: SafetyCopy | undefined;
  /** The server's state before any code of the source ran in it; set at that point. */
  serverState?: ServerState;
}
