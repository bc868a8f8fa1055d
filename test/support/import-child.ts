/** An import in a child process, which can be killed and whose memory can be measured. It reads its order from standard input. */
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { runImport } from "../../components/import/run/run-import.ts";
import { preparationScript } from "../../components/privileges/scripts.ts";
import type { ChildOrder } from "./attempt.ts";

const tell = (message: object) => console.log(JSON.stringify(message));
const die = () => process.kill(process.pid, "SIGKILL");
/** Whether to act at once, or in parallel. */
async function dieAfter(ms: number): Promise<void> {
  if (ms > 0) {
    setTimeout(die, ms);
  } else {
    die();
    await sleep(60_000);
  }
}
const mebibytes = (kibibytes: number) => Math.round(kibibytes / 1024);

const { spec, denyList, kill }: ChildOrder = JSON.parse(await text(process.stdin));
if (kill && kill.phase === undefined) setTimeout(die, kill.afterMs);
const before = mebibytes(process.resourceUsage().maxRSS);
try {
  await runImport(
    { ...spec, target: { ...spec.target, preparation: (database) => preparationScript(database, denyList) } },
    {
      say: (line) => console.log(line),
      onPhase: async (phase) => {
        tell({ phase });
        if (phase === kill?.phase) await dieAfter(kill.afterMs);
      },
      onSwapped: async () => {
        if (kill?.phase === "swapped") await dieAfter(kill.afterMs);
      },
    },
  );
} catch (error) {
  tell({ error: (error as Error).message });
  process.exitCode = 1;
}
tell({ memory: { before, peak: mebibytes(process.resourceUsage().maxRSS) } });
