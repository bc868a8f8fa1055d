-- Creates the extensions that every database has. Run as a superuser in a transaction; running it again changes nothing.
-- If the owner of a database has created functions or relations with an extension's names, the database keeps those and does not get
-- the extension.

-- See privileges.sql.
SET LOCAL search_path = pg_catalog, pg_temp;
DO $body$
DECLARE
	wanted record;
BEGIN
	FOR wanted IN
		SELECT * FROM (VALUES
			('uuid-ossp', '^uuid_(nil|ns_dns|ns_url|ns_oid|ns_x500|generate_v1|generate_v1mc|generate_v3|generate_v4|generate_v5)$'),
			('pgcrypto', '^(digest|hmac|crypt|gen_salt|(en|de)crypt(_iv)?|gen_random_(bytes|uuid)|(de)?armor|pgp_(sym|pub)_(en|de)crypt(_bytea)?|pgp_key_id|pgp_armor_headers)$'),
			('pg_stat_statements', '^pg_stat_statements(_info|_reset)?$')) AS w (extension, names)
	LOOP
		CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = wanted.extension);
		CONTINUE WHEN EXISTS (
			SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::pg_catalog.regnamespace AND p.proname ~ wanted.names
			UNION ALL
			SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = 'public'::pg_catalog.regnamespace AND c.relname ~ wanted.names);
		EXECUTE pg_catalog.format('CREATE EXTENSION %I SCHEMA public', wanted.extension);
	END LOOP;
END
$body$;
