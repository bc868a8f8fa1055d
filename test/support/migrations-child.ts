/** Runs migrations like Pulumi's provider, in a child process that can be killed. It reads its order from standard input. */
import { text } from "node:stream/consumers";
import { provider } from "../../components/migrations/migrations-provider.ts";

await provider.create(JSON.parse(await text(process.stdin)));
