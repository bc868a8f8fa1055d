/** What passes between the phases of an import. */
import type pg from "pg";
import type { Address } from "../../lib/postgres.ts";
import type { SelectionSettings } from "./selection-settings.ts";

/** A source to read from: where this process reaches it, and where a container does. */
export interface Source {
  /** How the source is spoken of in messages and reports: host and database, never a user's secret. */
  label: string;
  address: Address;
  /** The same server as a container sees it: for a local source that is another host and port. */
  fromContainer: { host: string; port: number; network?: string };
  /** Certificates, PEM, that the server's is checked against; undefined leaves the connection unencrypted. */
  rootCertificates: string | undefined;
  /** What was changed about the URL that was given, for people. */
  remarks: string[];
}

/** How the owner of a database logs in. Code that comes from a source runs in its sessions alone. */
export interface OwnerLogin {
  /** Role that owns the database and everything in it. */
  owner: string;
  ownerPassword: string;
}

/** Where the rows go. */
export interface Target extends OwnerLogin {
  /** The server, by its superuser; its `database` is the one to be filled. */
  address: Address;
  /** Roles of the application, the owner among them: they get the settings that the source's database has. */
  roles: readonly string[];
  /** SQL that gives a database of this name its extensions and privileges. */
  preparation: (database: string) => string;
  /** The same server as a container sees it. */
  fromContainer: { host: string; port: number; network?: string };
  /** The container that it runs in, where that is known: its disk can be looked at. */
  container?: string;
}

/** Where the safety copy goes, and for whom it is encrypted. */
export interface SafetyCopySettings {
  folder: string;
  /** File of age's private key. It is made where there is none, unless a recipient is given. */
  identityFile: string;
  /** age's public key, `age1...`; undefined is the identity's own. */
  recipient: string | undefined;
}

/** How an import replaces data, which otherwise is never overwritten. */
export interface Replacement {
  /**
   * Completes the loaded database after its proof, while nobody sees it. The import's own sessions have ended, but for the
   * keeper's.
   */
  complete(staging: Address): Promise<void>;
  /**
   * Puts the loaded database in the target's place.
   * @param keeper a superuser's session in the server's own database, which holds the import's lock.
   */
  swapIn(keeper: pg.Client): Promise<void>;
}

/** All that an import needs to know. */
export interface ImportSpec {
  source: Source;
  target: Target;
  /** Label of this stack's helpers in Docker. */
  stack: string;
  /** Image whose pg_dump reads sources up to the target's version. */
  image: string;
  /** Image whose pg_dump reads newer sources. */
  newerImage: string;
  dockerHost: string | undefined;
  /** Tables copied at the same time. */
  jobs: number;
  /** Folder of the report, from the project's folder. */
  reportFolder: string;
  /** The target's name, where it is a further database of the stack's. */
  furtherDatabase?: string;
  /** Where an encrypted copy of the source is kept; none is made without. */
  safetyCopy?: SafetyCopySettings;
  /** What of the source comes along; all of it without. */
  selection?: SelectionSettings;
  /** What becomes of data that the target holds; without it, such a target is refused. */
  replacement?: Replacement;
  /** The command that begins an import again, for messages; `pulumi up`, if left out. */
  command?: string;
  /** Secret that masks depend on, so that they are the same another time; each import has one of its own without. */
  maskSecret?: string;
}

/** A column that is copied. */
export interface Column {
  name: string;
  /** Computed by the server from others, so it is not copied. */
  generated: boolean;
  /** For a type whose values may be large: how their size is told. */
  large?: "bytes" | "text" | "stored" | null;
}

/** An ordinary table, a partition that holds rows, or a partitioned table with all rows of its partitions. */
export interface Table {
  schema: string;
  name: string;
  /** Quoted, for SQL. */
  sql: string;
  columns: Column[];
  /** COPY's format. Text where binary would carry a number that means something else on the other server. */
  format: "binary" | "text";
  /** Columns of the primary key, or of another key without NULLs; empty where there is none. */
  key: string[];
  /** Size on the source's disk, bytes. */
  bytes: number;
  /** Where not every row comes along as it is: what does. */
  selected?: SelectedRows;
  /**
   * A partitioned table in place of its partitions: the same row may belong to another partition here (see catalog.ts), so rows go
   * in through the table, and are compared as a set.
   */
  throughRoot?: boolean;
}

/** What a selection leaves of a table. Nothing of it is ever called equal to the source. */
export interface SelectedRows {
  /** SELECT of the copied columns, run on the source; what it leaves out or masks never crosses the wire. */
  query: string;
  verdict: SelectedVerdict;
  /** For people: which rows, which columns masked how. */
  what: string;
}

/** What is said of a table instead of "equal". That its rows are those that the source sent is proven all the same. */
export type SelectedVerdict = "masked" | "subset" | "masked subset" | "excluded" | "schema only";

/** What was left out, and why. */
export interface Skipped {
  what: string;
  why: string;
}

/** What the catalog of a database says. */
export interface Catalog {
  /** For instance 15.14. */
  version: string;
  majorVersion: number;
  encoding: string;
  collation: string;
  tables: Table[];
  sequences: string[];
  /** Names of extensions with their schema and version. */
  extensions: { name: string; schema: string; version: string }[];
  /** How many large objects there are. */
  largeObjects: number;
  skipped: Skipped[];
  /** Revision that Alembic wrote down, if it did. */
  alembicRevision: string | undefined;
}

/** A sequence's state. */
export interface SequenceState {
  name: string;
  lastValue: string;
  isCalled: boolean;
}

/** The proof of one table. */
export interface TableProof {
  table: string;
  rows: number;
  /** Bytes that crossed the wire. */
  bytes: number;
  seconds: number;
  format: "binary" | "text";
  /** Fingerprint of what the source sent inside the snapshot: SHA-256, or two 64-bit sums for a set of rows. */
  source: string;
  /** Fingerprint of what the target holds. */
  target: string;
  verdict: "equal" | "equal as a set" | "different" | SelectedVerdict;
  /** What came of a table that was selected from. */
  selected?: string;
  /** For a table that differs: keys of rows that do, or the number of rows where there is no key. */
  differences?: string[];
}

/** What a finished copy is, for reports. */
export interface SafetyCopyFacts {
  name: string;
  path: string;
  /** Of all files. */
  bytes: number;
  files: number;
  /** SHA-256 of checksums.txt, which has the SHA-256 of every file. */
  sha256: string;
  /** age's public key. */
  recipient: string;
  /** By decrypting all of it; or, where no identity was at hand, only that the disk gives back what was written. */
  verified: "decrypted" | "as written";
  /** Whether a selection kept something of the source out of it. */
  partial: boolean;
}

/** A span of the import, for the time line. */
export interface Span {
  name: string;
  /** Milliseconds since the start. */
  from: number;
  to: number;
}

/** All that an import learned. It holds no secret: it is written to disk and kept in the state. */
export interface Report {
  /** `selected` is identical but for what was left out or masked by choice. */
  verdict: "identical" | "selected" | "different" | "failed";
  error?: string;
  /** The stack that it was for. */
  stack: string;
  /** The database, where it is a further one of the stack's. */
  furtherDatabase?: string;
  /** The command that imports again. */
  command: string;
  source: string;
  sourceVersion: string;
  targetVersion: string;
  collations: { source: string; target: string };
  alembicRevision?: string;
  startedAt: string;
  seconds: number;
  rows: number;
  bytes: number;
  tables: TableProof[];
  sequences: { name: string; source: string; target: string }[];
  /** All large objects together, where there are any and they were copied. */
  largeObjects?: { objects: number; bytes: number; source: string; target: string };
  schema: {
    compared: number;
    differences: string[];
    /** Definitions whose text differs and whose meaning was proven to be the same. */
    reworded?: string[];
  };
  skipped: Skipped[];
  remarks: string[];
  spans: Span[];
  /** The encrypted copy of the source that was made on the way. */
  safetyCopy?: SafetyCopyFacts;
}
