/** How the label of the sample begins, as a source. */
export const SAMPLE = "the sample";

/** What the stack keeps of an import. */
export interface ImportSummary {
  source: string;
  finishedAt: string;
  tables: number;
  rows: number;
  bytes: number;
  seconds: number;
  /** One fingerprint over all tables' fingerprints, SHA-256. */
  fingerprint: string;
  /** Where the copy is not the whole source by choice: how not, in words. Such a copy is never called equal. */
  butFor?: string;
  /** The encrypted copy of the source: its name, and SHA-256 of its checksums. */
  safetyCopy?: { name: string; sha256: string };
}
