/** Reads from the catalog what belongs to a schema but is not in pg_dump's output with the import's options. */
import type pg from "pg";
import { isUsers, NEON_EXTENSIONS } from "./catalog.ts";
import { compareStates, type States } from "./states.ts";

/**
 * A condition on an object: it is neither part of an extension nor of another object, as a range type's functions are. (A partitioned
 * table depends on itself in pg_depend.)
 */
export const isNoMember = (classid: string, objid: string) => `NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = '${classid}'::regclass AND d.objid = ${objid}
    AND d.refobjid <> d.objid AND d.deptype IN ('e', 'i'))`;

const EXTENSION = "extension ";
/** For a table that inherits, because pg_dump's output does not depend on its column order. */
const COLUMN_ORDER = "order of columns of table ";

/**
 * pg_dump leaves out an invalid index, except that of a partitioned table, which is invalid until its partitions have their indexes. A
 * materialized view that was never filled cannot be read.
 */
const FACTS = `
  SELECT '${EXTENSION}' || e.extname AS object, 'version ' || e.extversion || ' in the schema ' || n.nspname AS state
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname <> 'plpgsql' AND e.extname <> ALL ($1)
  UNION ALL
  SELECT 'validity of index ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname), CASE WHEN i.indisvalid THEN 'valid' ELSE 'not valid' END
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (i.indisvalid OR c.relkind = 'I') AND ${isUsers("n.nspname")} AND ${isNoMember("pg_class", "i.indrelid")}
  UNION ALL
  SELECT 'content of materialized view ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname),
      CASE WHEN c.relispopulated THEN 'there' ELSE 'never computed' END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'm' AND ${isUsers("n.nspname")} AND ${isNoMember("pg_class", "c.oid")}
  UNION ALL
  SELECT '${COLUMN_ORDER}' || quote_ident(n.nspname) || '.' || quote_ident(c.relname),
      (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'f') AND NOT c.relispartition AND ${isUsers("n.nspname")} AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)`;

/** Reads the facts of a database. */
export async function readFacts(client: pg.Client): Promise<States> {
  const { rows } = await client.query<{ object: string; state: string }>(FACTS, [NEON_EXTENSIONS]);
  return new Map(rows.map(({ object, state }) => [object, state]));
}

/** A fact that differs between source and target. */
export interface FactDifference {
  object: string;
  /** Both states, in words. */
  how: string;
  /** Whether the import accepts it: the target's image may have only another version of an extension; columns are compared by name. */
  tolerable: boolean;
}

/**
 * Compares facts, and returns both states, which are short. A missing object other than an extension is a difference in pg_dump's
 * output. Facts that only the target has come from its own objects and are ignored.
 */
export const compareFacts = (source: States, target: States): FactDifference[] =>
  compareStates(source, target).flatMap(({ object, how }) => {
    const isExtension = object.startsWith(EXTENSION);
    if (how === "missing on the target" && isExtension) return [{ object, how, tolerable: false }];
    if (how !== "different") return [];
    const both = `${source.get(object)} on the source, ${target.get(object)} on the target`;
    return [{ object, how: both, tolerable: isExtension || object.startsWith(COLUMN_ORDER) }];
  });

/** Catalogs of objects with owners: the columns of owner and schema, and a condition for rows that are separate objects. */
const OWNED: [catalog: string, owner: string, schema: string, condition: string][] = [
  ["pg_class", "relowner", "relnamespace", "o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"],
  ["pg_proc", "proowner", "pronamespace", "true"],
  ["pg_type", "typowner", "typnamespace", "o.typtype <> 'c' AND o.typcategory <> 'A' AND o.typtype <> 'm'"],
  [
    "pg_type",
    "typowner",
    "typnamespace",
    "o.typtype = 'c' AND EXISTS (SELECT FROM pg_class WHERE oid = o.typrelid AND relkind = 'c')",
  ],
  ["pg_operator", "oprowner", "oprnamespace", "true"],
  ["pg_opclass", "opcowner", "opcnamespace", "true"],
  ["pg_opfamily", "opfowner", "opfnamespace", "true"],
  ["pg_collation", "collowner", "collnamespace", "true"],
  ["pg_conversion", "conowner", "connamespace", "true"],
  ["pg_ts_dict", "dictowner", "dictnamespace", "true"],
  ["pg_ts_config", "cfgowner", "cfgnamespace", "true"],
  ["pg_statistic_ext", "stxowner", "stxnamespace", "true"],
  ["pg_namespace", "nspowner", "oid", "true"],
];

const FOREIGN_OWNERS = `
  SELECT i.type || ' ' || i.identity AS object, pg_get_userbyid(o.owner) AS owner
  FROM (${OWNED.map(
    ([catalog, owner, schema, condition]) => `
    SELECT '${catalog}'::regclass AS classid, o.oid, o.${owner} AS owner
    FROM ${catalog} o JOIN pg_namespace n ON n.oid = o.${schema}
    WHERE ${isUsers("n.nspname")} AND ${condition} AND ${isNoMember(catalog, "o.oid")}`,
  ).join(" UNION ALL ")}
    UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata) o, LATERAL pg_identify_object(o.classid, o.oid, 0) i
  WHERE o.owner <> $1::regrole ORDER BY 1`;

/** Returns the target's objects that its owner does not own, with their owners. */
export async function findForeignOwners(
  client: pg.Client,
  owner: string,
): Promise<{ object: string; owner: string }[]> {
  return (await client.query<{ object: string; owner: string }>(FOREIGN_OWNERS, [owner])).rows;
}
