/** Migrations in a process of their own, which can be killed. Their order comes by standard input. */
import { text } from "node:stream/consumers";
import { runMigrations } from "../../components/migrations/run-migrations.ts";

await runMigrations(JSON.parse(await text(process.stdin)), (line) => console.log(line));
