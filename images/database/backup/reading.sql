-- Prepares a superuser's transaction to read users' tables without running code of their owners as the superuser.
--
-- Planning any query of a table simplifies the expressions of its indexes, statistics and constraints, which calls immutable functions
-- of constants at once, as the current user (PostgreSQL source: RelationGetIndexExpressions, get_relation_statistics). An index on
-- (id + owners_function(1)) is enough. COPY of a plain table has no plan, so it needs none of this.
--
-- The queries run inside a SECURITY DEFINER function, in which neither SET ROLE nor SET SESSION AUTHORIZATION is possible. Its owner
-- is a role that exists in this transaction alone, is a member of the tables' owners, and is subject to no row security. The
-- transaction (or savepoint) is read only from here on, so no code can change what is read. Roll it back: that removes the role,
-- enables event triggers again, and undoes every setting and deferred trigger that such code has left. A query should name everything
-- with its schema: where code of the owner does not find a name, the query runs once more with all schemas in the search path. Both
-- psql and the program run this file; it has no variables.
DO $body$
DECLARE
	reader CONSTANT text := pg_catalog.concat('sectorwars_reading_', pg_catalog.pg_backend_pid());
	owner name;
	trigger name;
BEGIN
	-- They would run their functions, and what those call, as the superuser. None of the other commands here sets one off.
	FOR trigger IN
		SELECT t.evtname FROM pg_catalog.pg_event_trigger t
		WHERE t.evtenabled <> 'D' AND t.evtevent IN ('ddl_command_start', 'ddl_command_end')
		  AND (t.evttags IS NULL OR t.evttags OPERATOR(pg_catalog.&&) '{CREATE FUNCTION,ALTER FUNCTION}'::text[])
	LOOP
		EXECUTE pg_catalog.format('ALTER EVENT TRIGGER %I DISABLE', trigger);
	END LOOP;
	EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN BYPASSRLS', reader);
	FOR owner IN
		-- No role can be made a member of pg_database_owner; the database's owner is one.
		SELECT DISTINCT CASE WHEN o.rolsuper THEN 'pg_read_all_data' ELSE o.rolname END
		FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
		JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
		JOIN pg_catalog.pg_roles o ON o.oid = CASE r.rolname WHEN 'pg_database_owner' THEN d.datdba ELSE r.oid END
		WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
		  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'sectorwars_stack')
		  AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_depend e
			WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e')
	LOOP
		EXECUTE pg_catalog.format('GRANT %I TO %I', owner, reader);
	END LOOP;
	-- The settings are compared because they decide how values are written, and where names are looked up afterwards. No name in the
	-- function depends on them.
	CREATE FUNCTION pg_temp.read_as_owner(query text, keys text[] DEFAULT NULL) RETURNS SETOF jsonb
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
	DECLARE
		reading CONSTANT text := pg_catalog.concat('SELECT pg_catalog.to_jsonb(q) FROM (', query, ') q');
		before jsonb := (SELECT pg_catalog.jsonb_object_agg(s.name, s.setting) FROM pg_catalog.pg_settings s);
	BEGIN
		BEGIN
			RETURN QUERY EXECUTE reading USING keys;
		EXCEPTION WHEN undefined_function OR undefined_table OR undefined_object OR undefined_column OR ambiguous_function
			OR invalid_schema_name
		THEN
			-- The function of an index or of statistics finds names by the search path. Which it finds changes nothing in the rows.
			PERFORM pg_catalog.set_config('search_path', (
				SELECT pg_catalog.concat('pg_catalog, ', pg_catalog.string_agg(pg_catalog.concat(pg_catalog.quote_ident(n.nspname), ', '), ''), 'pg_temp')
				FROM pg_catalog.pg_namespace n
				WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'sectorwars_stack')), true);
			before := before OPERATOR(pg_catalog.||)
				pg_catalog.jsonb_build_object('search_path', pg_catalog.current_setting('search_path'));
			RETURN QUERY EXECUTE reading USING keys;
		END;
		IF NOT ((SELECT pg_catalog.jsonb_object_agg(s.name, s.setting) FROM pg_catalog.pg_settings s) OPERATOR(pg_catalog.@>) before) THEN
			RAISE EXCEPTION 'code of a table''s owner changed settings of the session that reads the table' USING
				ERRCODE = 'insufficient_privilege',
				HINT = 'Look at the functions in the expressions of the table''s indexes and statistics.';
		END IF;
	END
	$function$;
	EXECUTE pg_catalog.format('ALTER FUNCTION pg_temp.read_as_owner(text, text[]) OWNER TO %I', reader);
END
$body$;
SET TRANSACTION READ ONLY;
