/** The data that benchmarks of whole servers measure. */
import { withConnection } from "../test/support/session.ts";
import { events } from "./lab.ts";
import type { Up } from "./pulumi.ts";
import { CLIENTS } from "./writes.ts";

/** Fills the database, about 1 GB at scale 1: half pgbench's tables, half indexed jsonb. Returns its size in bytes. */
export async function fill({ place, inServer }: Up, scale: number): Promise<number> {
  const pgbench = ["pgbench", "-q", "-i", "-I", "dtGp", "-s", String(Math.max(CLIENTS, Math.round(32 * scale)))];
  await inServer(...pgbench, place.address.database);
  return withConnection(place.address, async (client) => {
    await client.query(events(Math.round(700_000 * scale)));
    await client.query("VACUUM ANALYZE");
    await client.query("CHECKPOINT");
    return (await client.query("SELECT pg_database_size(current_database())::float8 AS bytes")).rows[0].bytes;
  });
}
