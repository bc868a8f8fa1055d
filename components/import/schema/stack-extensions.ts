/** Handles the stack's extensions (sql/extensions.sql) if a source has other objects or versions in their place. */
import type pg from "pg";
import { ident } from "../../../lib/postgres.ts";
import type { Catalog } from "../types.ts";

/** The extensions in sql/extensions.sql. */
export const STACK_EXTENSIONS: readonly string[] = ["uuid-ossp", "pgcrypto", "pg_stat_statements"];

/** Returns a query for the names of routines and relations in public, which must be unique: members of extensions, or all others. */
const namesSql = (membership: "e" | "none") => {
  const member = (catalog: string) => `pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.${catalog}'::pg_catalog.regclass AND d.deptype = 'e' AND d.objid = o.oid`;
  const filter = (catalog: string) =>
    membership === "e" ? `EXISTS (SELECT FROM ${member(catalog)})` : `NOT EXISTS (SELECT FROM ${member(catalog)})`;
  const extension = (catalog: string) => (membership === "e" ? `(SELECT e.extname FROM ${member(catalog)})` : "NULL");
  return `
    SELECT ${extension("pg_proc")} AS extension, i.identity AS name
      FROM pg_catalog.pg_proc o, pg_catalog.pg_identify_object('pg_catalog.pg_proc'::pg_catalog.regclass, o.oid, 0) i
      WHERE o.pronamespace = 'public'::pg_catalog.regnamespace AND ${filter("pg_proc")}
    UNION ALL
    SELECT ${extension("pg_class")}, i.identity
      FROM pg_catalog.pg_class o, pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, o.oid, 0) i
      WHERE o.relnamespace = 'public'::pg_catalog.regnamespace AND o.relkind NOT IN ('i', 'I') AND ${filter("pg_class")}`;
};

/** An extension that must not be in the database, and the source's own objects with names of its members. */
export interface Displaced {
  extension: string;
  names: string[];
}

/**
 * Finds the stack's extensions that a source does not have, while it has its own objects with their members' names.
 * @param staging the superuser's session in a database that has the stack's extensions and nothing of the source.
 */
export async function findDisplaced(
  source: pg.Client,
  staging: pg.Client,
  { extensions }: Pick<Catalog, "extensions">,
): Promise<Displaced[]> {
  const has = new Set(extensions.map(({ name }) => name));
  const theirs = new Set((await source.query<{ name: string }>(namesSql("none"))).rows.map(({ name }) => name));
  const ours = (await staging.query<{ extension: string; name: string }>(namesSql("e"))).rows;
  return STACK_EXTENSIONS.filter((name) => !has.has(name)).flatMap((extension) => {
    const names = ours.filter((one) => one.extension === extension && theirs.has(one.name)).map(({ name }) => name);
    return names.length > 0 ? [{ extension, names: names.sort() }] : [];
  });
}

/**
 * Drops the stack's extensions that the source's objects displace, and those that the source has in another version which this server
 * also has; {@link extensionsSql} creates these again in that version.
 * @param staging the superuser's session in a database that has nothing of the source yet.
 */
export async function makeRoom(
  staging: pg.Client,
  displaced: readonly string[],
  { extensions }: Pick<Catalog, "extensions">,
): Promise<void> {
  const { rows } = await staging.query<{ name: string; version: string }>(
    `SELECT e.extname AS name, v.version FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_available_extension_versions v
       ON v.name = e.extname AND v.version <> e.extversion WHERE e.extname = ANY ($1)`,
    [STACK_EXTENSIONS],
  );
  const inOtherVersion = extensions.filter(({ name, version }) =>
    rows.some((row) => row.name === name && row.version === version),
  );
  const gone = [
    ...displaced.filter((name) => STACK_EXTENSIONS.includes(name)),
    ...inOtherVersion.map(({ name }) => name),
  ];
  for (const name of gone) await staging.query(`DROP EXTENSION IF EXISTS ${ident(name)}`);
}

/** Returns the report's remark. */
export const describeDisplaced = ({ extension, names }: Displaced): string =>
  `the source has its own ${names.join(", ")} and not the extension ${extension}, so the database does not have that extension`;
