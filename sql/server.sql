-- Sets the privileges on PostgreSQL's own databases. Run as a superuser in the database postgres. By default, PUBLIC may connect
-- to both, and create temporary tables and large objects there. Superusers are not affected: tools that administer the
-- server can still connect to postgres, and CREATE DATABASE can still copy template1.
REVOKE ALL ON DATABASE postgres FROM PUBLIC, :"owner", :"app", :"readonly", :"monitor" CASCADE;
REVOKE ALL ON DATABASE template1 FROM PUBLIC, :"owner", :"app", :"readonly", :"monitor" CASCADE;
-- The monitor reads statistics of the whole server from here.
GRANT CONNECT ON DATABASE postgres TO :"monitor";
REVOKE EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea)
	FROM PUBLIC, :"owner", :"app", :"readonly", :"monitor";
