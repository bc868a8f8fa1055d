/** The source of the measured imports: about 2 GB that are as hard to import as a real game's data. */
import { docker } from "../lib/docker.ts";
import type { Address } from "../lib/postgres.ts";
import { withConnection } from "../test/support/session.ts";

/** Wide jsonb rows with b-trees and a GIN index. Building that index takes longer than copying all rows. */
export const events = (rows: number) => `
  CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL
  );
  INSERT INTO events (at, kind, payload)
    SELECT timestamptz '2026-01-01' + i * interval '1 second', 'kind ' || i % 20,
      jsonb_build_object('player', md5((i % 49999)::text), 'sector', i % 4999, 'credits', i % 997 * 0.25, 'cargo',
        jsonb_build_array('ore ' || i % 997, 'fuel ' || i % 31), 'won', i % 3 = 0,
        'story', repeat(md5((i % 19997)::text), 8))
    FROM generate_series(1, ${rows}) i;
  CREATE INDEX events_at ON events (at);
  CREATE INDEX events_kind ON events (kind, at DESC);
  CREATE INDEX events_payload ON events USING gin (payload jsonb_path_ops);`;

/** Many small tables: each has keys, indexes, and references to two others; the last references close a cycle. */
const small = (tables: number) => `
  DO $$ DECLARE other int; BEGIN
    FOR t IN 1..${tables} LOOP
      EXECUTE format('CREATE TABLE small_%s (id serial PRIMARY KEY, one integer, two integer, name text NOT NULL UNIQUE,
        value numeric NOT NULL, made timestamptz NOT NULL)', t);
      EXECUTE format('INSERT INTO small_%s (one, two, name, value, made) SELECT i, 401 - i, ''name '' || i, i / 3.0,
        timestamptz ''2026-01-01'' + i * interval ''1 minute'' FROM generate_series(1, 400) i', t);
      EXECUTE format('CREATE INDEX ON small_%s (one)', t);
    END LOOP;
    FOR t IN 1..${tables} LOOP
      other := t % ${tables} + 1;
      EXECUTE format('ALTER TABLE small_%s ADD FOREIGN KEY (one) REFERENCES small_%s', t, other);
      other := (t + 6) % ${tables} + 1;
      EXECUTE format('ALTER TABLE small_%s ADD FOREIGN KEY (two) REFERENCES small_%s', t, other);
    END LOOP;
  END $$;`;

/**
 * Creates the database `source` and fills it, partly with pgbench.
 * @param scale 1 is 2 million jsonb rows, pgbench's scale 40, and 140 small tables; there are always 140 small tables.
 * @returns the size of the database in bytes.
 */
export async function fillSource(container: string, address: Address, scale: number): Promise<number> {
  await withConnection(address, (client) => client.query("CREATE DATABASE source TEMPLATE template0"), {
    patienceMs: 60_000,
  });
  const pgbench = ["pgbench", "-q", "-i", "-I", "dtGp", "-s", String(Math.max(1, Math.round(40 * scale))), "source"];
  await docker(["exec", "-u", "postgres", container, ...pgbench]);
  return withConnection({ ...address, database: "source" }, async (client) => {
    await client.query(events(Math.round(2_000_000 * scale)));
    await client.query(small(140));
    await client.query("VACUUM ANALYZE");
    await client.query("CHECKPOINT");
    return (await client.query("SELECT pg_database_size('source')::float8 AS bytes")).rows[0].bytes;
  });
}
