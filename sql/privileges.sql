-- Sets the privileges in one database. Run as a superuser. Running it again repairs wrong privileges and changes nothing else.
-- It runs before any table exists, so that every table gets its grants on creation: a later grant on ALL TABLES would undo
-- what a migration has revoked.

-- Objects of the application must not stand in for PostgreSQL's own while this script runs as a superuser. pg_temp is named
-- because it would come first otherwise.
SET LOCAL search_path = pg_catalog, pg_temp;

-- The database: PUBLIC gets nothing, and the owner may create schemas. Applications use temporary tables, so the app role
-- may create them here, and in no other database.
ALTER DATABASE :"database" OWNER TO :"owner";
ALTER DATABASE :"database" CONNECTION LIMIT -1 IS_TEMPLATE false;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC, :"app", :"readonly", :"monitor" CASCADE;
GRANT CONNECT, TEMPORARY ON DATABASE :"database" TO :"app";
GRANT CONNECT ON DATABASE :"database" TO :"readonly", :"monitor";

-- The schema public belongs to the owner. The roles that read or write rows may use it.
ALTER SCHEMA public OWNER TO :"owner";
REVOKE ALL ON SCHEMA public FROM PUBLIC, :"app", :"readonly", :"monitor" CASCADE;
GRANT USAGE ON SCHEMA public TO :"app", :"readonly";

-- Default privileges on what the owner creates from now on, in any schema.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT USAGE ON SCHEMAS TO :"app", :"readonly";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT ON TABLES TO :"readonly";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT, UPDATE, USAGE ON SEQUENCES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT ON SEQUENCES TO :"readonly";

-- The stack's own schema. Only superusers create objects in it. The owner and monitor have grants on single objects, none of
-- which holds a secret.
CREATE SCHEMA IF NOT EXISTS sectorwars_stack;
REVOKE ALL ON SCHEMA sectorwars_stack FROM PUBLIC, :"owner", :"app", :"readonly", :"monitor" CASCADE;
GRANT USAGE ON SCHEMA sectorwars_stack TO :"owner", :"monitor";

-- A superuser reads and writes the tables of that schema. A trigger or a rule on one of them, or a table of another role,
-- would run that role's code as a superuser, so the script stops before it touches any of them.
DO $body$
DECLARE
	stack_schema CONSTANT oid := 'sectorwars_stack'::pg_catalog.regnamespace;
	schema_owner text;
	foreign_objects text;
BEGIN
	SELECT r.rolname INTO schema_owner FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
	WHERE n.oid = stack_schema AND NOT r.rolsuper;
	IF FOUND THEN
		RAISE EXCEPTION 'schema sectorwars_stack in database % belongs to %, which is not a superuser',
				pg_catalog.current_database(), schema_owner USING
			ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'The stack needs a schema of this name. Rename yours: ALTER SCHEMA sectorwars_stack RENAME TO another_name; then run pulumi up.';
	END IF;
	SELECT pg_catalog.string_agg(o.what, ', ' ORDER BY o.what) INTO foreign_objects FROM (
		SELECT pg_catalog.pg_describe_object(d.classid, d.objid, 0) || ' of ' || r.rolname AS what
		FROM pg_catalog.pg_depend d
		JOIN pg_catalog.pg_shdepend s ON s.classid = d.classid AND s.objid = d.objid AND s.objsubid = 0 AND s.deptype = 'o'
			AND s.dbid = (SELECT db.oid FROM pg_catalog.pg_database db WHERE db.datname = pg_catalog.current_database())
		JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid AND NOT r.rolsuper
		WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = stack_schema
		UNION ALL SELECT pg_catalog.pg_describe_object('pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid, 0)
		FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = stack_schema
		UNION ALL SELECT pg_catalog.pg_describe_object('pg_catalog.pg_rewrite'::pg_catalog.regclass, w.oid, 0)
		FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
		WHERE c.relnamespace = stack_schema AND w.rulename <> '_RETURN'
	) o;
	IF foreign_objects IS NOT NULL THEN
		RAISE EXCEPTION 'schema sectorwars_stack in database % contains objects that could run code as a superuser: %',
				pg_catalog.current_database(), foreign_objects USING
			ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Only superusers may own objects in this schema, and its tables have no triggers and no rules. Drop them or move them to another schema, then run pulumi up.';
	END IF;
END
$body$;
REVOKE ALL ON ALL TABLES IN SCHEMA sectorwars_stack FROM PUBLIC, :"app", :"readonly";
-- The status of a stack shows where its data comes from. A running import writes this table later.
DO $body$
BEGIN
	IF pg_catalog.to_regclass('sectorwars_stack.import') IS NOT NULL THEN
		GRANT SELECT ON sectorwars_stack.import TO :"monitor";
	END IF;
END
$body$;

-- The deny list of readonly.
--
-- A relation is denied when its name is on the list, in upper or lower case. So is every partition and every inheritance
-- child of such a relation, at any depth, because they hold the rows; and every relation from which those inherit, because
-- a query of a parent reads the rows of its children with the privileges on the parent alone.
--
-- An event trigger revokes what readonly holds on a denied relation, at the end of the statement that granted, created,
-- renamed or attached it. Nothing is granted when a partition is detached or a relation is renamed: the owner must do that.
CREATE TABLE IF NOT EXISTS sectorwars_stack.readonly_denied (pattern text PRIMARY KEY);
REVOKE ALL ON sectorwars_stack.readonly_denied FROM PUBLIC, :"owner", :"app", :"readonly", :"monitor";
GRANT SELECT ON sectorwars_stack.readonly_denied TO :"monitor";
DROP EVENT TRIGGER IF EXISTS sectorwars_deny_readonly;

-- Returns the denied relations. `altered` limits the search to relatives of some relations, which is all that a statement
-- about them can change; NULL searches the whole database. Temporary tables are ignored: only their own session reads them,
-- through a parent as well. PL/pgSQL, because it keeps its plans for the whole session.
CREATE OR REPLACE FUNCTION sectorwars_stack.denied_relations(patterns text[], altered oid[]) RETURNS SETOF oid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
	lowered CONSTANT text[] := ARRAY(SELECT pg_catalog.lower(p COLLATE pg_catalog."default") FROM pg_catalog.unnest(patterns) p);
	candidates oid[];
	named oid[];
	related oid[];
BEGIN
	IF altered IS NULL THEN
		named := ARRAY(
			SELECT c.oid FROM pg_catalog.pg_class c
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
			  AND pg_catalog.lower(c.relname::text COLLATE pg_catalog."default") LIKE ANY (lowered));
	ELSE
		candidates := ARRAY(
			WITH RECURSIVE below AS (
				SELECT a AS oid FROM pg_catalog.unnest(altered) a
				UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.oid
			), above AS (
				SELECT b.oid FROM below b
				UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN above a ON i.inhrelid = a.oid
			)
			SELECT a.oid FROM above a);
		named := ARRAY(
			SELECT c.oid FROM pg_catalog.pg_class c
			WHERE c.oid = ANY (candidates) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
			  AND pg_catalog.lower(c.relname::text COLLATE pg_catalog."default") LIKE ANY (lowered));
	END IF;
	IF named = '{}' THEN
		RETURN;
	END IF;
	related := ARRAY(
		WITH RECURSIVE below AS (
			SELECT n AS oid FROM pg_catalog.unnest(named) n
			UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.oid
		), above AS (
			SELECT b.oid FROM below b
			UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN above a ON i.inhrelid = a.oid
		)
		SELECT a.oid FROM above a);
	RETURN QUERY
		SELECT c.oid FROM pg_catalog.pg_class c
		WHERE c.oid = ANY (related) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
		  AND c.relpersistence <> 't'
		  AND c.relnamespace <> ALL (ARRAY['pg_catalog', 'information_schema', 'sectorwars_stack']::pg_catalog.regnamespace[]::oid[])
		  -- Relations that an extension lets PUBLIC read, such as pg_stat_statements, have no rows of the application.
		  AND NOT (
			EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = c.relowner AND r.rolsuper)
			AND EXISTS (
				SELECT FROM pg_catalog.pg_depend d
				WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'));
END
$body$;

-- Returns the table and column privileges that readonly holds on these relations, directly, through PUBLIC, or through a role
-- that it is a member of. It leaves out the owner and app, which keep theirs: a readonly role that is a member of them must
-- lose that membership instead.
CREATE OR REPLACE FUNCTION sectorwars_stack.denied_grants(denied oid[])
RETURNS TABLE (relation oid, grantee oid, grantor oid, by_owner boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
	RETURN QUERY
		WITH RECURSIVE recipients AS (
			SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = :'readonly'
			UNION SELECT r.oid
			FROM recipients p
			JOIN pg_catalog.pg_auth_members m ON m.member = p.oid
			JOIN pg_catalog.pg_roles r ON r.oid = m.roleid AND NOT r.rolsuper AND r.rolname NOT IN (:'owner', :'app')
		), privileges AS (
			SELECT c.oid, c.relowner, a.grantee, a.grantor
			FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a WHERE c.oid = ANY (denied)
			UNION SELECT c.oid, c.relowner, a.grantee, a.grantor
			FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid, pg_catalog.aclexplode(t.attacl) a
			WHERE c.oid = ANY (denied) AND NOT t.attisdropped
		)
		SELECT p.oid, p.grantee, p.grantor, p.grantor = p.relowner
		FROM privileges p
		WHERE p.grantee <> p.relowner AND (p.grantee = 0 OR p.grantee IN (SELECT r.oid FROM recipients r));
END
$body$;

-- Revokes what readonly holds on denied relations. REVOKE removes only what the relation's owner granted, so a grant of
-- another role is removed by revoking that role's grant option; the role keeps the privilege itself. PostgreSQL has no
-- statement for one case (a column privilege granted by a role with the grant option on the whole table): then the statement
-- that grants it fails.
CREATE OR REPLACE FUNCTION sectorwars_stack.revoke_denied(patterns text[], altered oid[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
	denied CONSTANT oid[] := ARRAY(SELECT d FROM sectorwars_stack.denied_relations(patterns, altered) d);
	held record;
BEGIN
	IF denied = '{}' OR NOT EXISTS (SELECT FROM sectorwars_stack.denied_grants(denied)) THEN
		RETURN;
	END IF;
	FOR held IN
		SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname) AS relation, pg_catalog.quote_ident(r.rolname) AS role
		FROM sectorwars_stack.denied_grants(denied) g
		JOIN pg_catalog.pg_class c ON c.oid = g.relation
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN LATERAL (
			SELECT a.grantee FROM pg_catalog.aclexplode(c.relacl) a WHERE a.is_grantable AND a.grantor = c.relowner
			UNION SELECT a.grantee FROM pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) a
			WHERE t.attrelid = c.oid AND a.is_grantable AND a.grantor = c.relowner
		) a
		JOIN pg_catalog.pg_roles r ON r.oid = a.grantee AND r.oid <> c.relowner
		WHERE NOT g.by_owner
	LOOP
		EXECUTE pg_catalog.format('REVOKE GRANT OPTION FOR ALL ON TABLE %s FROM %s CASCADE', held.relation, held.role);
	END LOOP;
	FOR held IN
		SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname) AS relation,
			CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END AS role
		FROM sectorwars_stack.denied_grants(denied) g
		JOIN pg_catalog.pg_class c ON c.oid = g.relation
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
		WHERE g.by_owner
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s CASCADE', held.relation, held.role);
	END LOOP;
	FOR held IN
		SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS relation, r.rolname AS role, coalesce(e.rolname, 'PUBLIC') AS grantee
		FROM sectorwars_stack.denied_grants(denied) g
		JOIN pg_catalog.pg_class c ON c.oid = g.relation
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_roles r ON r.oid = g.grantor
		LEFT JOIN pg_catalog.pg_roles e ON e.oid = g.grantee
		LIMIT 1
	LOOP
		RAISE EXCEPTION '% must not read %, which is on its deny list, but % granted % privileges on columns of it',
				:'readonly', held.relation, held.role, held.grantee USING
			ERRCODE = 'insufficient_privilege',
			HINT = pg_catalog.format('Let %I take them back first: REVOKE ALL (column, ...) ON %s FROM %s', held.role, held.relation,
				CASE held.grantee WHEN 'PUBLIC' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(held.grantee) END);
	END LOOP;
END
$body$;

-- Runs as a superuser in any session that changes a table, so it and what it calls pin the search path with pg_temp last
-- (a temporary view named pg_class must not stand in for the catalog), name every relation and function with its schema,
-- and call nothing that belongs to another role.
CREATE OR REPLACE FUNCTION sectorwars_stack.deny_readonly() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
	altered oid[];
BEGIN
	-- PostgreSQL does not report which relations a GRANT was about.
	IF tg_tag <> 'GRANT' THEN
		altered := ARRAY(
			SELECT DISTINCT c.objid FROM pg_catalog.pg_event_trigger_ddl_commands() c
			WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass);
		IF altered = '{}' THEN
			RETURN;
		END IF;
	END IF;
	PERFORM sectorwars_stack.revoke_denied(:'denied'::text[], altered);
END
$body$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sectorwars_stack FROM PUBLIC, :"owner", :"app", :"readonly", :"monitor";
GRANT EXECUTE ON FUNCTION sectorwars_stack.denied_relations(text[], oid[]), sectorwars_stack.denied_grants(oid[]) TO :"monitor";

-- ALTER INDEX renames tables, too.
CREATE EVENT TRIGGER sectorwars_deny_readonly ON ddl_command_end
	WHEN TAG IN ('CREATE SCHEMA', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE VIEW', 'CREATE MATERIALIZED VIEW',
		'CREATE FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA', 'ALTER TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW',
		'ALTER FOREIGN TABLE', 'ALTER INDEX', 'GRANT')
	EXECUTE FUNCTION sectorwars_stack.deny_readonly();
-- The owner may set session_replication_role while migrations run, and replica switches ordinary event triggers off.
ALTER EVENT TRIGGER sectorwars_deny_readonly ENABLE ALWAYS;

-- The list may have grown since the tables were created. Only a table that is no longer denied gets its grant back: if
-- readonly has no grant for another reason, a migration revoked it.
DO $body$
DECLARE
	former CONSTANT text[] := ARRAY(SELECT d.pattern FROM sectorwars_stack.readonly_denied d);
	given_back record;
BEGIN
	PERFORM sectorwars_stack.revoke_denied(:'denied'::text[], NULL);
	FOR given_back IN
		SELECT n.nspname, c.relname
		FROM sectorwars_stack.denied_relations(former, NULL) f
		JOIN pg_catalog.pg_class c ON c.oid = f
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relowner = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = :'owner')
		  AND f NOT IN (SELECT d FROM sectorwars_stack.denied_relations(:'denied'::text[], NULL) d)
	LOOP
		EXECUTE pg_catalog.format('GRANT SELECT ON TABLE %I.%I TO %I', given_back.nspname, given_back.relname, :'readonly');
	END LOOP;
END
$body$;
DELETE FROM sectorwars_stack.readonly_denied;
INSERT INTO sectorwars_stack.readonly_denied SELECT DISTINCT p FROM pg_catalog.unnest(:'denied'::text[]) p;
