/** One of two databases that are compared, read in one exported snapshot. It is only read. */
import type pg from "pg";
import type { Address } from "../../../lib/postgres.ts";
import { readCatalog } from "../schema/catalog.ts";
import { readFacts } from "../schema/facts.ts";
import { type Dump, dumpSchema } from "../schema/schema.ts";
import type { States } from "../schema/states.ts";
import { exportSnapshot, joinSnapshot, lockTables, tablesToLock } from "../source/snapshot.ts";
import type { Catalog, Source } from "../types.ts";

/** How to reach a database to compare: a remote source, the stack's own database, or a server made for the comparison. */
export interface ComparedDatabaseAccess
  extends Pick<Source, "label" | "address" | "fromContainer" | "rootCertificates"> {
  /** Login for pg_dump; that of the address, if left out. On the stack's own server the owner's privileges suffice. */
  dumpLogin?: Pick<Address, "user" | "password">;
}

/** An open database. The caller closes it. */
export interface ComparedDatabase {
  label: string;
  catalog: Catalog;
  /** Sessions that all see the same snapshot, with every setting pinned. One for each job. */
  sessions: pg.Client[];
  /** Returns the definitions, as the pg_dump of an image writes them. */
  definitions(image: string): Promise<Dump>;
  /** Returns what pg_dump does not write. */
  facts(): Promise<States>;
  close(): Promise<void>;
}

/** Options for opening a database to compare. */
export interface ComparisonOptions {
  /** Sessions to open. */
  jobs: number;
  /** Stack, for the label of its helper containers in Docker. */
  stack: string;
  dockerHost: string | undefined;
}

/** Opens a database: exports one snapshot for all sessions, and locks the tables so that they are not rewritten meanwhile. */
export async function openComparedDatabase(
  access: ComparedDatabaseAccess,
  { jobs, stack, dockerHost }: ComparisonOptions,
): Promise<ComparedDatabase> {
  const snapshot = await exportSnapshot(access);
  const sessions = [snapshot.holder];
  const close = async () => void (await Promise.all(sessions.map((session) => session.end().catch(() => {}))));
  try {
    const catalog = await readCatalog(snapshot.holder);
    await lockTables(snapshot.holder, catalog.tables);
    const locked = await tablesToLock(snapshot.holder, catalog.tables, jobs);
    while (sessions.length < jobs) sessions.push(await joinSnapshot(access, snapshot, locked));
    return {
      label: access.label,
      catalog,
      sessions,
      definitions: async (image) => {
        const { database } = access.address;
        const dumpAs = ({ user, password }: Pick<Address, "user" | "password">) =>
          dumpSchema(
            { ...access.fromContainer, database, user, password, rootCertificates: access.rootCertificates },
            { image, stack, dockerHost, snapshot: snapshot.id },
          );
        if (access.dumpLogin === undefined) return dumpAs(access.address);
        // An object that belongs to another role is a difference to report, and must not stop the comparison.
        return dumpAs(access.dumpLogin).catch((error: Error) => {
          if (/permission denied/.test(error.message)) return dumpAs(access.address);
          throw error;
        });
      },
      facts: () => readFacts(snapshot.holder),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
