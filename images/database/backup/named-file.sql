-- A finding of damaged pages, as JSON: the name of the table or index that a file belongs to at present. Variables: at, label, file, blocks, and
-- the numbers of tablespace and file node.
SELECT pg_catalog.format('{"at":%s,"source":"backup","label":%s,"database":%s,"relation":%s,"file":%s,"blocks":%s}', :at,
  pg_catalog.to_json(:'label'::text), pg_catalog.to_json(pg_catalog.current_database()::text),
  coalesce(pg_catalog.to_json(CASE
    WHEN i.indexrelid IS NOT NULL
    THEN pg_catalog.format('index %s of %s', c.oid::pg_catalog.regclass, coalesce(indexed.oid, i.indrelid)::pg_catalog.regclass)
    WHEN main.oid IS NOT NULL THEN pg_catalog.format('%s (its long values)', main.oid::pg_catalog.regclass)
    ELSE c.oid::pg_catalog.regclass::text END)::text, 'null'),
  pg_catalog.to_json(:'file'::text), pg_catalog.to_json(:'blocks'::text))
FROM (SELECT pg_catalog.pg_filenode_relation(:tablespace, :node)) f (oid)
  LEFT JOIN pg_catalog.pg_class c ON c.oid = f.oid
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_catalog.pg_class main ON main.reltoastrelid = c.oid
  LEFT JOIN pg_catalog.pg_class indexed ON indexed.reltoastrelid = i.indrelid;
