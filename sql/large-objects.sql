-- Only the owner creates large objects: they lie outside every schema, belong to the role that created them, and no deny
-- list and no migration knows of them. PostgreSQL lets PUBLIC create them in every database, and keeps that in each
-- database by itself. Reading and writing needs no rule here: each large object has grants of its own, and the owner's
-- belong to the owner alone until the owner grants them.
REVOKE EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea)
	TO :"owner";
