-- The roles of a new project. cloud_admin is the superuser; a customer has no superuser.
CREATE ROLE neon_superuser NOLOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS IN ROLE pg_read_all_data, pg_write_all_data;
GRANT pg_monitor TO neon_superuser WITH ADMIN OPTION;
CREATE ROLE neondb_owner LOGIN INHERIT CREATEDB CREATEROLE REPLICATION BYPASSRLS PASSWORD :'password' IN ROLE neon_superuser;
-- Roles for row-level security by the claims of a token.
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE anonymous NOLOGIN;
