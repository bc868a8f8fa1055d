-- Findings, as JSON: databases in which the server has read pages with a wrong checksum since a moment, `clean`, in seconds since 1970.
SELECT pg_catalog.format('{"at":%s,"source":"checksums","database":%s,"count":%s}',
  pg_catalog.floor(extract(epoch FROM checksum_last_failure)), pg_catalog.to_json(coalesce(datname, '')::text), checksum_failures)
FROM pg_catalog.pg_stat_database
WHERE checksum_failures > 0 AND extract(epoch FROM checksum_last_failure) > :clean;
