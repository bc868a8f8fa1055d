-- Who may do what in one database. Run as the superuser; running it again changes nothing that is right and mends what is
-- not. It runs before any table is there, so that every table is born with its grants: a grant on ALL TABLES afterwards
-- would undo what a migration has revoked.

-- The database: nobody by default; the owner may make schemas in it.
ALTER DATABASE :"database" OWNER TO :"owner";
ALTER DATABASE :"database" CONNECTION LIMIT -1;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC, :"app", :"readonly", :"monitor" CASCADE;
GRANT CONNECT, TEMPORARY ON DATABASE :"database" TO :"app";
GRANT CONNECT ON DATABASE :"database" TO :"readonly", :"monitor";

-- Its first schema: to the owner everything, to those who read or write rows the way in.
ALTER SCHEMA public OWNER TO :"owner";
REVOKE ALL ON SCHEMA public FROM PUBLIC, :"app", :"readonly", :"monitor" CASCADE;
GRANT USAGE ON SCHEMA public TO :"app", :"readonly";

-- What the owner makes from now on, in any schema.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT USAGE ON SCHEMAS TO :"app", :"readonly";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT ON TABLES TO :"readonly";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT, UPDATE, USAGE ON SEQUENCES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT ON SEQUENCES TO :"readonly";

-- Tables that readonly must not read, also those that a later migration makes or renames: an event trigger takes the grant
-- away in the transaction that gave it. It lives in a schema of the stack's own, out of the application's sight.
CREATE SCHEMA IF NOT EXISTS sectorwars_stack;
REVOKE ALL ON SCHEMA sectorwars_stack FROM PUBLIC, :"owner", :"app", :"readonly", :"monitor";

CREATE OR REPLACE FUNCTION sectorwars_stack.deny_readonly() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
DECLARE
	denied record;
BEGIN
	FOR denied IN
		SELECT c.oid::regclass AS relation
		FROM pg_class c
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
		  AND c.relname LIKE ANY (:'denied'::text[])
		  AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
		  AND (has_table_privilege(:'readonly', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		    OR has_any_column_privilege(:'readonly', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
	LOOP
		EXECUTE format('REVOKE ALL ON %s FROM %I', denied.relation, :'readonly');
	END LOOP;
END
$body$;
REVOKE ALL ON FUNCTION sectorwars_stack.deny_readonly() FROM PUBLIC;

DROP EVENT TRIGGER IF EXISTS sectorwars_deny_readonly;
CREATE EVENT TRIGGER sectorwars_deny_readonly ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE VIEW', 'CREATE MATERIALIZED VIEW',
		'CREATE FOREIGN TABLE', 'ALTER TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'GRANT')
	EXECUTE FUNCTION sectorwars_stack.deny_readonly();

-- The list may have grown since the tables were made; a table that has left it gets its grant back. No other table does:
-- where readonly has no grant, a migration took it.
CREATE TABLE IF NOT EXISTS sectorwars_stack.readonly_denied (pattern text PRIMARY KEY);
DO $body$
DECLARE
	found record;
BEGIN
	FOR found IN
		SELECT c.oid::regclass AS relation, c.relname LIKE ANY (:'denied'::text[]) AS is_denied
		FROM pg_class c
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relowner = :'owner'::regrole
		  AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'sectorwars_stack')
		  AND (c.relname LIKE ANY (:'denied'::text[])
		    OR EXISTS (SELECT FROM sectorwars_stack.readonly_denied d WHERE c.relname LIKE d.pattern))
	LOOP
		IF found.is_denied THEN
			EXECUTE format('REVOKE ALL ON %s FROM %I', found.relation, :'readonly');
		ELSE
			EXECUTE format('GRANT SELECT ON %s TO %I', found.relation, :'readonly');
		END IF;
	END LOOP;
END
$body$;
DELETE FROM sectorwars_stack.readonly_denied;
INSERT INTO sectorwars_stack.readonly_denied SELECT DISTINCT unnest(:'denied'::text[]);
