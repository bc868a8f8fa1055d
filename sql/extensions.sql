-- Extensions of every database. Run as a superuser in a transaction; running it again changes nothing.

-- See privileges.sql.
SET LOCAL search_path = pg_catalog, pg_temp;
CREATE EXTENSION IF NOT EXISTS "uuid-ossp" SCHEMA public;
CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA public;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public;
