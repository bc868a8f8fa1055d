import type { Table } from "../../components/import/types.ts";
import { qualified } from "../../lib/postgres.ts";

/** A table as the catalog describes it, with defaults for everything that a test does not give. */
export function makeTable(name: string, more: Partial<Table> = {}): Table {
  const schema = more.schema ?? "public";
  return {
    schema,
    name,
    sql: qualified(schema, name),
    columns: [{ name: "id", generated: false }],
    format: "binary",
    key: ["id"],
    bytes: 8192,
    ...more,
  };
}
