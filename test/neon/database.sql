-- The visible objects that Neon puts into a customer's database.
CREATE SCHEMA neon;
CREATE EXTENSION neon;
CREATE EXTENSION pg_session_jwt;
CREATE SCHEMA neon_migration;
CREATE TABLE neon_migration.migration_id (key integer PRIMARY KEY, id bigint NOT NULL DEFAULT 0);
INSERT INTO neon_migration.migration_id VALUES (0, 12);
CREATE SCHEMA neon_auth;
CREATE TABLE neon_auth.users_sync (
  raw_json jsonb NOT NULL,
  id text GENERATED ALWAYS AS (raw_json ->> 'id') STORED PRIMARY KEY,
  email text GENERATED ALWAYS AS (raw_json ->> 'primary_email') STORED,
  deleted_at timestamptz
);
INSERT INTO neon_auth.users_sync (raw_json) VALUES ('{"id": "u1", "primary_email": "ada@example.org"}');
GRANT USAGE ON SCHEMA neon, neon_migration, neon_auth TO neon_superuser;
GRANT ALL ON neon_auth.users_sync TO neon_superuser;
GRANT ALL ON SCHEMA public TO neon_superuser WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE cloud_admin IN SCHEMA public GRANT ALL ON TABLES TO neon_superuser WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE cloud_admin IN SCHEMA public GRANT ALL ON SEQUENCES TO neon_superuser WITH GRANT OPTION;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE FUNCTION neon.noted() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER noted ON ddl_command_end EXECUTE FUNCTION neon.noted();
