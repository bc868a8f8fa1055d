/** A small source with one table for each way in which rows can be corrupted unnoticed. */

/** SQL for the plain owner of the database. */
export const SMALL = `
CREATE TYPE rank AS ENUM ('cadet', 'pilot', 'captain');
CREATE TYPE place AS (sector integer, orbit integer);
CREATE SEQUENCE tickets START 100;
CREATE SEQUENCE untouched;
CREATE TABLE pilots (
  id integer PRIMARY KEY,
  name text NOT NULL,
  note text,
  rank rank NOT NULL DEFAULT 'cadet',
  credits bigint NOT NULL DEFAULT 0,
  half bigint GENERATED ALWAYS AS (credits / 2) STORED
);
CREATE TABLE drones (id bigserial PRIMARY KEY, pilot integer NOT NULL REFERENCES pilots, orders json NOT NULL, cargo jsonb NOT NULL DEFAULT '{}');
CREATE TABLE visits (at timestamptz NOT NULL, address inet NOT NULL, ok boolean);
CREATE TABLE tunnels (a integer, b integer, stability double precision NOT NULL, PRIMARY KEY (a, b));
CREATE TABLE homes (name varchar(40) PRIMARY KEY, place place NOT NULL, icon bytea);
CREATE INDEX pilots_name_idx ON pilots (lower(name));
CREATE INDEX visits_at_idx ON visits (at);
CREATE VIEW captains AS SELECT id, name FROM pilots WHERE rank = 'captain';
INSERT INTO pilots (id, name, note, rank, credits)
  SELECT i, 'Pilot ' || i, CASE i % 3 WHEN 0 THEN '' WHEN 1 THEN NULL ELSE 'naïve 銀河' END, (enum_range(NULL::rank))[1 + i % 3], i * 7
  FROM generate_series(1, 2000) i;
INSERT INTO drones (pilot, orders, cargo) SELECT 1 + i % 2000, '{"b": 1,  "a": [1, 2]}', '{"ore": 1.50}' FROM generate_series(1, 1500) i;
INSERT INTO visits SELECT timestamptz '2026-01-01' + i * interval '1 minute', '10.0.0.1', i % 2 = 0 FROM generate_series(1, 500) i;
INSERT INTO visits SELECT '2026-02-02', '10.0.0.2', true FROM generate_series(1, 2);
INSERT INTO tunnels SELECT i, i + 1, 1.0 / i FROM generate_series(1, 300) i;
INSERT INTO homes SELECT 'Home ' || i, ROW(i, -i)::place, decode(lpad(to_hex(i), 4, '0'), 'hex') FROM generate_series(1, 50) i;
SELECT nextval('tickets') FROM generate_series(1, 5);
`;

/** Large enough that a test can interrupt the copy. */
export const LARGE = `
CREATE TABLE crates (id integer PRIMARY KEY, content text NOT NULL);
INSERT INTO crates SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 60000) i;
CREATE INDEX crates_idx ON crates (md5(content));
`;
