/** Measures the time of a query through the published port. */
import { defaultPort } from "../components/settings.ts";
import { withConnection } from "../test/support/session.ts";
import { makeStack } from "./pulumi.ts";
import { median, percentile, type Section } from "./results.ts";

const STACK = "bench";
const ROWS = 100_000;
const QUERIES = 20_000;

export async function benchQuery(): Promise<Section> {
  const stack = await makeStack(STACK);
  try {
    await stack.pulumi("up", "--yes", "--skip-preview", "--stack", STACK);
    const urls = JSON.parse(
      await stack.pulumi("stack", "output", "urls", "--json", "--show-secrets", "--stack", STACK),
    );
    const { username, password } = new URL(urls.owner);
    const address = {
      host: "127.0.0.1",
      port: defaultPort(STACK),
      database: "sectorwars_dev",
      user: username,
      password,
    };
    const times = await withConnection(address, async (client) => {
      await client.query(
        `CREATE TABLE bench AS SELECT i AS id, repeat('x', 100) AS filler FROM generate_series(1, ${ROWS}) i`,
      );
      await client.query("ALTER TABLE bench ADD PRIMARY KEY (id)");
      const milliseconds: number[] = [];
      for (let i = 0; i < QUERIES; i += 1) {
        const from = performance.now();
        await client.query({
          name: "by-key",
          text: "SELECT filler FROM bench WHERE id = $1",
          values: [1 + ((i * 7919) % ROWS)],
        });
        milliseconds.push(performance.now() - from);
      }
      return milliseconds.slice(QUERIES / 10);
    });
    const ms = (value: number) => `${value.toFixed(3)} ms`;
    console.log(`  p50 ${ms(median(times))}, p99 ${ms(percentile(times, 0.99))}`);
    return {
      title: "A query by primary key",
      about: `${QUERIES.toLocaleString("en")} prepared queries from Node through 127.0.0.1, one after another, without the first tenth.`,
      table: [
        ["p50", "p99", "p99.9"],
        [ms(median(times)), ms(percentile(times, 0.99)), ms(percentile(times, 0.999))],
      ],
    };
  } finally {
    await stack.end();
  }
}
