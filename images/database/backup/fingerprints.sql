-- Prints the fingerprints of every table of a database. Variables for psql:
--   role   `alone` if no other session writes; else `leading` in one database and `following` in all others at the same time
--   point  the name of the restore point that the leading session makes
--
-- While other sessions write, the fingerprints are those of exactly one point of the WAL. The tables are locked against writers only
-- while the restore point is made and the snapshot is taken, so the snapshot contains everything that was committed before the restore
-- point, and nothing later. The sessions wait for each other: the restore point is made once all of them have their locks, and each
-- keeps its locks until it has a snapshot. Rolling back to the savepoint releases the locks; the snapshot stays for the counting. A session
-- gives up its locks before PostgreSQL's deadlock_timeout (1 s), so that no transaction of another session is ended because of them.
\set ON_ERROR_STOP on
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset fieldsep '\t'
-- How values are written, and where names are looked up, is pinned by the session (session.sh).

-- Ordinary tables and partitions, and large objects, where there are any: their bytes, and which there are with owners and privileges. Unlogged ones are empty after any recovery; views are made of
-- the others; sequences run ahead in the log.
\set ours 'c.relkind = ''r'' AND c.relpersistence = ''p'' AND (n.nspname !~ ''^pg_'' AND n.nspname <> ''information_schema'' OR c.oid IN (''pg_catalog.pg_largeobject''::pg_catalog.regclass, ''pg_catalog.pg_largeobject_metadata''::pg_catalog.regclass))'
-- Roles by their names, which outlast a server. They are looked up in the snapshot: aclitemout() would tell today's.
\set metadata '(SELECT m.oid, o.rolname, m.lomacl IS NULL AS by_default, (SELECT pg_catalog.string_agg(e.entry, '','' ORDER BY e.entry COLLATE "C") FROM (SELECT pg_catalog.concat_ws('' '', pg_catalog.quote_ident(coalesce(b.rolname, ''PUBLIC'')), a.privilege_type, a.is_grantable, pg_catalog.quote_ident(g.rolname)) AS entry FROM pg_catalog.aclexplode(m.lomacl) a LEFT JOIN pg_catalog.pg_authid b ON b.oid = a.grantee LEFT JOIN pg_catalog.pg_authid g ON g.oid = a.grantor) e) AS privileges FROM pg_catalog.pg_largeobject_metadata m LEFT JOIN pg_catalog.pg_authid o ON o.oid = m.lomowner)'
\set tables_sql 'SELECT pg_catalog.string_agg(c.oid::pg_catalog.regclass::text, '', ONLY '' ORDER BY c.oid::pg_catalog.regclass::text) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE ' :ours
SELECT (:tables_sql) AS tables \gset
SELECT :'role' <> 'alone' AS together, :'role' = 'leading' AS leading \gset

\if :together
-- Each is locked twice, its indexes once; the table of all locks is the server's, and others need their share of it.
SELECT (SELECT pg_catalog.count(*) * 2 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE :ours)
  + (SELECT pg_catalog.count(*) FROM pg_catalog.pg_index)
  > pg_catalog.current_setting('max_locks_per_transaction')::int * pg_catalog.current_setting('max_connections')::int / 2 AS many \gset
\if :many
\warn error: there are too many tables to lock them all for a moment: raise max_locks_per_transaction
SELECT 1/0;
\endif
\endif

-- Nothing that reads stands between this and the locks: it would take the snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ;
\if :together
-- Held to the end, so that no session empties or rewrites a table in the meantime.
SET LOCAL lock_timeout = '700ms';
LOCK TABLE ONLY :tables IN ACCESS SHARE MODE;
SAVEPOINT gentle;
SET LOCAL statement_timeout = '700ms';
LOCK TABLE ONLY :tables IN SHARE MODE;
\set met `sectorwars-backup await-sessions :'role'`
\if :met
\else
\warn error: the tables of another database could not be locked
SELECT 1/0;
\endif
\if :leading
SELECT pg_catalog.pg_create_restore_point(:'point') AS lsn \gset
\! touch "$MEETING/made"
\else
-- Whatever it is, it takes the snapshot.
SELECT 1 AS lsn \gset
\endif
ROLLBACK TO SAVEPOINT gentle;
\endif
-- A table that was made in between is in the snapshot, but was not locked.
SELECT (:tables_sql) IS DISTINCT FROM :'tables' AS changed \gset
\if :changed
\warn error: a table was made or dropped meanwhile
SELECT 1/0;
\endif
-- No code of the tables' owner may run as the superuser, nor decide what is read (reading.sql). A cast of the row to text would be the
-- owner's, if there is one; but record_out takes a record, to which nothing can be cast, and calls the output functions of types, which
-- superusers alone make. The alias alone would mean the column, in a table that has one of its name.
\ir reading.sql
SELECT CASE WHEN q.is_system THEN q.query
  ELSE pg_catalog.format('SELECT r OPERATOR(pg_catalog.->>) ''name'', r OPERATOR(pg_catalog.->>) ''rows'', r OPERATOR(pg_catalog.->>) ''sums'' '
    'FROM pg_temp.read_as_owner(%L) r', q.query) END
FROM (
  SELECT pg_catalog.format(
    'SELECT %L AS name, pg_catalog.count(*) AS rows, '
    'coalesce(pg_catalog.sum(pg_catalog.hashtextextended(r, 0)::pg_catalog.numeric), 0) OPERATOR(pg_catalog.||) '' '' '
    'OPERATOR(pg_catalog.||) coalesce(pg_catalog.sum(pg_catalog.hashtextextended(r, 20231)::pg_catalog.numeric), 0) AS sums '
    'FROM (SELECT pg_catalog.textin(pg_catalog.record_out(t.*)) AS r FROM %s t OFFSET 0) x %s',
    pg_catalog.current_database() || ' ' || c.oid::pg_catalog.regclass,
    CASE WHEN c.oid = 'pg_catalog.pg_largeobject_metadata'::pg_catalog.regclass THEN :'metadata'
      ELSE pg_catalog.format('ONLY %s', c.oid::pg_catalog.regclass) END,
    CASE WHEN c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN 'HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0' END) AS query,
    c.oid::pg_catalog.regclass::text AS name,
    -- Only superusers can create an index or statistics on these.
    n.nspname IN ('pg_catalog', 'sectorwars_stack') OR EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e') AS is_system
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE :ours
) q
ORDER BY q.name COLLATE "C"
\gexec
ROLLBACK;
