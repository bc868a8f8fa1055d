/** Types that the phases of an import share. */
import type pg from "pg";
import type { Address } from "../../lib/postgres.ts";

/** How a column is masked. */
export type MaskKind = "email" | "name" | "text" | "hash" | "null" | "fixed";

/** The mask of one column. */
export interface Mask {
  /** The setting's text, for messages. */
  setting: string;
  /** Table, with or without its schema. */
  table: string;
  column: string;
  kind: MaskKind;
  /** The value that `fixed` sets. */
  value?: string;
}

/** The rows of a table from which a subset grows. */
export interface SubsetRoot {
  setting: string;
  table: string;
  /** A condition in SQL on the table's columns; exclusive with a percentage. */
  where?: string;
  percent?: number;
}

/** What of the source is imported, if that is not all of it. */
export interface SelectionSettings {
  /** Tables whose rows are not copied; `*` for any characters. */
  exclude: string[];
  /** No rows are copied. */
  schemaOnly: boolean;
  subset: SubsetRoot[];
  masks: Mask[];
}

/** A source, with the addresses at which this process and a container reach it. */
export interface Source {
  /** The source's name in messages and reports: host and database, never a secret. */
  label: string;
  address: Address;
  /** The same server as a container reaches it; for a local source, host and port differ. */
  fromContainer: { host: string; port: number; network?: string };
  /** Root certificates, PEM, for verifying the server's; undefined leaves the connection unencrypted. */
  rootCertificates: string | undefined;
  /** What was changed in the given URL, for the report. */
  remarks: string[];
}

/** The login of a database's owner. Code from a source runs only in the owner's sessions. */
export interface OwnerLogin {
  /** Role that owns the database and everything in it. */
  owner: string;
  ownerPassword: string;
}

/** Where the rows go. */
export interface Target extends OwnerLogin {
  /** The server, with its superuser's login; `database` is the one to fill. */
  address: Address;
  /** Roles of the application, including the owner. They get the settings of the source's database. */
  roles: readonly string[];
  /** SQL that gives a database of this name its extensions and privileges. */
  preparation: (database: string) => string;
  /** The same server as a container reaches it. */
  fromContainer: { host: string; port: number; network?: string };
  /** The container that it runs in, if known; its free disk space can be read. */
  container?: string;
}

/** Where the safety copy is written, and its recipient. */
export interface SafetyCopySettings {
  folder: string;
  /** File of the age identity (private key). Created if it does not exist, unless a recipient is given. */
  identityFile: string;
  /** age public key, `age1...`; undefined for that of the identity. */
  recipient: string | undefined;
}

/** How an import replaces existing data. Without it, data is never overwritten. */
export interface Replacement {
  /**
   * Completes the staging database after its proof and before the swap. All sessions of the import except the lock session have
   * ended.
   */
  complete(staging: Address): Promise<void>;
  /**
   * Swaps the staging database in for the target's.
   * @param lockSession a superuser's session in the maintenance database, which holds the import's lock.
   */
  swapIn(lockSession: pg.Client): Promise<void>;
}

/** Everything that an import needs to know. */
export interface ImportSpec {
  source: Source;
  target: Target;
  /** Stack, for the label of its helper containers in Docker. */
  stack: string;
  /** Image whose pg_dump reads sources up to the target's version. */
  image: string;
  /** Image whose pg_dump reads newer sources. */
  newerImage: string;
  dockerHost: string | undefined;
  /** Tables copied at the same time. */
  jobs: number;
  /** Folder of the report, relative to the project's folder. */
  reportFolder: string;
  /** The target's name, if it is a further database of the stack. */
  furtherDatabase?: string;
  /** Where the safety copy is written; no copy is made if left out. */
  safetyCopy?: SafetyCopySettings;
  /** What of the source is copied; all of it, if left out. */
  selection?: SelectionSettings;
  /** What happens to data that the target holds; if left out, the import rejects such a target. */
  replacement?: Replacement;
  /** The command that starts the import again, for messages; `pulumi up`, if left out. */
  command?: string;
  /** Secret for the masks, so that later imports produce the same ones; if left out, each import uses a random one. */
  maskSecret?: string;
}

/** A column that is copied. */
export interface Column {
  name: string;
  /** Computed by the server from other columns, so it is not copied. */
  generated: boolean;
  /** For a type whose values may be large: how to measure their size. */
  large?: "bytes" | "text" | "stored" | null;
}

/** An ordinary table, a partition that holds rows, or a partitioned table with all rows of its partitions. */
export interface Table {
  schema: string;
  name: string;
  /** Quoted, for SQL. */
  sql: string;
  columns: Column[];
  /** COPY's format. Text if binary would carry an OID, which means something else on the other server. */
  format: "binary" | "text";
  /** Columns of the primary key, or of another unique key without NULLs; empty if the table has no such key. */
  key: string[];
  /** Size on the source's disk, bytes. */
  bytes: number;
  /** What is copied, if that is not every row as it is. */
  selected?: SelectedRows;
  /**
   * A partitioned table in place of its partitions. A row may belong to another partition on the target (see catalog.ts), so rows are
   * inserted through the partitioned table and compared as a set.
   */
  throughRoot?: boolean;
}

/** The selected rows of a table. They are never called equal to the source. */
export interface SelectedRows {
  /** SELECT of the copied columns, run on the source, so that excluded rows and unmasked values never leave it. */
  query: string;
  verdict: SelectedVerdict;
  /** Description for the report: which rows, and which columns are masked how. */
  what: string;
}

/** The verdict on a selected table instead of "equal". Its rows are still proven equal to what the source sent. */
export type SelectedVerdict = "masked" | "subset" | "masked subset" | "excluded" | "schema only";

/** Something that was not copied, and the reason. */
export interface Skipped {
  what: string;
  why: string;
}

/** Contents of a database, read from its catalog. */
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
  /** Number of large objects. */
  largeObjects: number;
  skipped: Skipped[];
  /** Revision in alembic_version, if that table exists. */
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
  /** What the source sent inside the snapshot: SHA-256 of the bytes, or the fingerprint of a set of rows. */
  source: string;
  /** The same of what the target holds. */
  target: string;
  verdict: "equal" | "equal as a set" | "different" | SelectedVerdict;
  /** Description of the selected rows. */
  selected?: string;
  /** For a table that differs: keys of differing rows, or their number if the table has no key. */
  differences?: string[];
}

/** A finished safety copy, for reports. */
export interface SafetyCopyFacts {
  name: string;
  path: string;
  /** Size of all files together. */
  bytes: number;
  files: number;
  /** SHA-256 of checksums.txt, which has the SHA-256 of every file. */
  sha256: string;
  /** age public key. */
  recipient: string;
  /** Verified by decrypting all of it; or, without the identity, by reading the written files back. */
  verified: "decrypted" | "as written";
  /** Whether a selection left part of the source out. */
  partial: boolean;
}

/** A span of the import, for the timeline. */
export interface Span {
  name: string;
  /** Milliseconds since the start. */
  from: number;
  to: number;
}

/** Result of an import. It holds no secret: it is written to disk and stored in the state. */
export interface Report {
  /** `selected` means identical except for what the settings leave out or mask. */
  verdict: "identical" | "selected" | "different" | "failed";
  error?: string;
  /** The target's stack. */
  stack: string;
  /** The target's database, if it is a further one of the stack. */
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
  /** All large objects together, if any were copied. */
  largeObjects?: { objects: number; bytes: number; source: string; target: string };
  schema: {
    compared: number;
    differences: string[];
    /** Definitions whose text differs, with a meaning that was proven to be the same. */
    reworded?: string[];
  };
  skipped: Skipped[];
  remarks: string[];
  spans: Span[];
  /** The safety copy that was made during the import. */
  safetyCopy?: SafetyCopyFacts;
}
