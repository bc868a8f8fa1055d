-- Makes a database of a scratch server ready for pg_amcheck, and prints the statements that take that back.
--
-- pg_amcheck calls the functions of amcheck by their names, in the schema that the extension lies in, with arguments that do not fit
-- exactly. In a schema of another role, its owner could make functions that fit better, and they would run as the superuser. So the
-- extension is brought into pg_catalog. Event triggers would run their functions on that as the superuser: they are off meanwhile.
-- ALTER EVENT TRIGGER itself sets none off.
\set ON_ERROR_STOP on
\set QUIET on
\pset tuples_only on
\pset format unaligned
SELECT CASE
  WHEN e.oid IS NULL THEN 'DROP EXTENSION IF EXISTS amcheck;'
  WHEN n.nspname <> 'pg_catalog' THEN pg_catalog.format('ALTER EXTENSION amcheck SET SCHEMA %I;', n.nspname)
  ELSE '' END
FROM (SELECT) one LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'amcheck' LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace;
SELECT pg_catalog.format('ALTER EVENT TRIGGER %I ENABLE%s;', evtname, CASE evtenabled WHEN 'R' THEN ' REPLICA' WHEN 'A' THEN ' ALWAYS' END)
FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D';
SELECT pg_catalog.format('ALTER EVENT TRIGGER %I DISABLE', evtname) FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D' \gexec
CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA pg_catalog;
SELECT 'ALTER EXTENSION amcheck SET SCHEMA pg_catalog'
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'amcheck' AND n.nspname <> 'pg_catalog' \gexec
