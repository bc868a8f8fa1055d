/** Migrations as Pulumi's provider runs them, in a process of their own, which can be killed. Their order comes by standard input. */
import { text } from "node:stream/consumers";
import { provider } from "../../components/migrations/migrations-provider.ts";

await provider.create(JSON.parse(await text(process.stdin)));
