-- Lets the pooler look up the password of a role that logs in to it. Run as a superuser in the database postgres, in one
-- transaction. The pooler's role can call this function and do nothing else: it cannot read pg_authid, and it is a member of no role.
-- The function returns no superuser and no role that can replicate, so neither can log in through the pooler.
CREATE SCHEMA IF NOT EXISTS pooler;
ALTER SCHEMA pooler OWNER TO CURRENT_USER;
REVOKE ALL ON SCHEMA pooler FROM PUBLIC;
CREATE OR REPLACE FUNCTION pooler.login(wanted text) RETURNS TABLE (usename name, passwd text)
	LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT rolname, rolpassword FROM pg_catalog.pg_authid
		WHERE rolname OPERATOR(pg_catalog.=) wanted AND rolcanlogin AND NOT rolsuper AND NOT rolreplication
			AND (rolvaliduntil IS NULL OR rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
	$$;
ALTER FUNCTION pooler.login(text) OWNER TO CURRENT_USER;
REVOKE ALL ON FUNCTION pooler.login(text) FROM PUBLIC;

GRANT CONNECT ON DATABASE postgres TO :"pooler";
GRANT USAGE ON SCHEMA pooler TO :"pooler";
GRANT EXECUTE ON FUNCTION pooler.login(text) TO :"pooler";
