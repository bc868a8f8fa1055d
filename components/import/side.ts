/** One of two databases that are compared, as it is at one moment. It is only read. */
import type pg from "pg";
import type { Address } from "../../lib/postgres.ts";
import { readCatalog } from "./catalog.ts";
import { readFacts } from "./facts.ts";
import { type Dump, dumpSchema } from "./schema.ts";
import { exportSnapshot, joinSnapshot, lockTables, tablesToLock } from "./snapshot.ts";
import type { States } from "./states.ts";
import type { Catalog, Source } from "./types.ts";

/** Where a side is: a remote source, the stack's own database, or a server that was made for the comparison. */
export interface SideAccess extends Pick<Source, "label" | "address" | "fromContainer" | "rootCertificates"> {
  /** Who runs pg_dump there; whom the address names, if left out. On the stack's own server the owner's rights suffice. */
  dumpLogin?: Pick<Address, "user" | "password">;
}

/** A side, open. Whoever opened it closes it. */
export interface Side {
  label: string;
  catalog: Catalog;
  /** Sessions that all see the same moment, with every setting pinned. As many as may work at the same time. */
  sessions: pg.Client[];
  /** Definitions, as the pg_dump of an image writes them. */
  definitions(image: string): Promise<Dump>;
  /** What pg_dump does not write. */
  facts(): Promise<States>;
  close(): Promise<void>;
}

/** How sides are opened. */
export interface SideOptions {
  /** Sessions to open. */
  jobs: number;
  /** Label of the stack's helpers in Docker. */
  stack: string;
  dockerHost: string | undefined;
}

/** Opens a side: one snapshot that all sessions share, the tables kept from being rewritten under it. */
export async function openSide(access: SideAccess, { jobs, stack, dockerHost }: SideOptions): Promise<Side> {
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
        // Something that belongs to another role is a difference to be named, and no reason to compare nothing.
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
