-- The roles that are there before a customer makes any. cloud_admin is the superuser, which no customer is.
CREATE ROLE neon_superuser NOLOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS IN ROLE pg_read_all_data, pg_write_all_data;
GRANT pg_monitor TO neon_superuser WITH ADMIN OPTION;
CREATE ROLE neondb_owner LOGIN INHERIT CREATEDB CREATEROLE REPLICATION BYPASSRLS PASSWORD :'password' IN ROLE neon_superuser;
-- For row-level security by a token's claims.
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE anonymous NOLOGIN;
