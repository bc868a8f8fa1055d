/** The source label of the sample data begins with this. */
export const SAMPLE = "the sample";

/** The summary of an import in the stack's outputs. */
export interface ImportSummary {
  source: string;
  finishedAt: string;
  tables: number;
  rows: number;
  bytes: number;
  seconds: number;
  /** SHA-256 of all tables' fingerprints. */
  fingerprint: string;
  /** The exceptions, if the settings exclude parts of the source. Such a copy is never reported as equal. */
  butFor?: string;
  /** The safety copy: its name, and SHA-256 of its checksums. */
  safetyCopy?: { name: string; sha256: string };
}

/** Returns whether the sample was imported. */
export const isSample = (summary: Pick<ImportSummary, "source"> | null | undefined): boolean =>
  summary?.source.startsWith(`${SAMPLE} (`) ?? false;
