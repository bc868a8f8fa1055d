-- Only the owner creates large objects: they lie outside every schema, belong to the role that created them, and no deny
-- list and no migration knows of them. PostgreSQL lets PUBLIC create them, and keeps that for each database. Reading and
-- writing needs no rule here: every large object has grants of its own, and one of the owner's belongs to the owner alone
-- until the owner grants it.
REVOKE EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea)
	FROM PUBLIC, :"app", :"readonly", :"monitor";
GRANT EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea)
	TO :"owner";
