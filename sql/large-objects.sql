-- Only the owner may create large objects. They are outside every schema and belong to the role that created them, so neither the
-- deny list nor a migration covers them. PostgreSQL lets PUBLIC create them, and stores that privilege for each database. Reading and
-- writing needs no rule here: every large object has its own grants, and no other role has any on the owner's objects until the
-- owner grants them.
REVOKE EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea)
	FROM PUBLIC, :"app", :"readonly", :"monitor";
GRANT EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea)
	TO :"owner";
