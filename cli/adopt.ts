/** `./db adopt`: takes over the data of a volume that the application's own database made, through the import. */

import type { Command } from "@commander-js/extra-typings";
import { announceRecoveryTarget } from "../components/backups/confirm-target.ts";
import { findRelations } from "../components/import/catalog.ts";
import { directAddress } from "../components/import/direct.ts";
import { reportFolder } from "../components/import/report-folder.ts";
import { lockServer, readMarker } from "../components/import/swap.ts";
import { runImport } from "../components/import/worker.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { cancellable } from "../lib/cancellation.ts";
import { type DockerError, docker, isRemoteEngine } from "../lib/docker.ts";
import { newerImage, readImages } from "../lib/images.ts";
import { namesFor } from "../lib/naming.ts";
import { type Address, withConnection } from "../lib/postgres.ts";
import { Scope } from "../lib/scope.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { ALIAS, imageOf, onlyDatabase, publishedPort, SUPERUSER, startServer } from "./support/adopt-source.ts";
import { ownerOf } from "./support/owner.ts";
import { addExamples, type Invocation, onStack, value } from "./support/subcommand.ts";

/** The tables of a deny list as the stack's own database has them. */
async function deniedIn(url: string): Promise<string[]> {
  return withConnection(addressOf(url), async (client) => {
    const { rows } = await client.query<{ pattern: string }>("SELECT pattern FROM sectorwars_stack.readonly_denied");
    // Kept as LIKE patterns, wanted as names with *.
    return rows.map(({ pattern }) => pattern.replaceAll(/\\(.)|%/g, (_, escaped?: string) => escaped ?? "*"));
  });
}

/** Before a copy is made that may be large: the import would refuse it as well. */
async function assertTargetEmpty(target: Address, stack: string): Promise<void> {
  const remedy = `Nothing is ever overwritten. Adopt into a new stack: ./script/up --stack NAME, with bootstrap empty`;
  const { imported, relations } = await withConnection(target, async (client) => ({
    imported: await readMarker(client),
    relations: await findRelations(client),
  }));
  if (imported) throw new Error(`The stack ${stack} was imported before, from ${imported.source}. ${remedy}.`);
  if (relations.length > 0) throw new Error(`${target.database} is not empty (${relations.join(", ")}). ${remedy}.`);
}

async function adopt(
  { stack, say, print }: Invocation,
  volume: string,
  wanted: { image?: string; database?: string },
): Promise<number> {
  if (isRemoteEngine(undefined)) {
    throw new Error(
      `The Docker engine is on another machine (DOCKER_HOST is ${process.env.DOCKER_HOST}), where the copy's server has no port that is ` +
        `reached from here. Run this there.`,
    );
  }
  const outputs = await readStack(stack);
  const target = addressOf(outputs.urls.superuser ?? "");
  await docker(["volume", "inspect", volume]).catch((error: DockerError) => {
    throw new Error(
      /no such volume/i.test(error.stderr)
        ? `There is no volume ${volume}. docker volume ls shows those that are.`
        : error.message,
    );
  });
  await assertTargetEmpty(target, stack);
  if (volume === namesFor(stack).volume) throw new Error(`${volume} is this stack's own volume.`);
  const stackImage = (await docker(["inspect", "-f", "{{.Image}}", outputs.container])).trim();
  const image = wanted.image ?? (await imageOf(volume)) ?? stackImage;
  const denyList = await deniedIn(outputs.urls.superuser ?? "");
  const name = `sectorwars-${stack}-adopt`;
  const bring = async () => {
    // Before anything is cleared that might be in use.
    await withConnection({ ...target, database: "postgres" }, async (client) => {
      await lockServer(client);
      await announceRecoveryTarget(stack, client, (line) => say(`adopt: ${line}`));
    });
    await docker(["rm", "-f", "-v", name]).catch(() => {});
    say(`adopt: a server of ${image} on a copy of ${volume}`);
    const { password } = await startServer(name, volume, image, outputs.network);
    const port = await publishedPort(name);
    const address = { host: "127.0.0.1", port, user: SUPERUSER, password, database: "postgres" };
    const database = wanted.database ?? (await onlyDatabase(address, name));
    await runImport(
      {
        source: {
          label: `the volume ${volume}, database ${database}`,
          address: { ...address, database },
          fromContainer: { host: ALIAS, port: 5432, network: outputs.network },
          rootCertificates: undefined,
          remarks: ["the source is a copy of a local volume"],
        },
        target: {
          address: await directAddress(outputs.container, target, undefined),
          ...ownerOf(outputs.urls),
          preparation: (into) => preparationScript(into, denyList),
          fromContainer: { host: namesFor(stack).alias, port: 5432, network: outputs.network },
        },
        stack,
        image: stackImage,
        newerImage: newerImage(readImages()),
        dockerHost: undefined,
        jobs: 2,
        reportFolder: reportFolder(stack),
      },
      { say },
    );
  };
  await cancellable(async (signal) => {
    const scope = new Scope();
    signal.addEventListener("abort", () =>
      scope.close(new Error(`Stopped. ${volume} is as it was, and so is the stack.`)),
    );
    try {
      await scope.run(bring);
    } finally {
      await docker(["rm", "-f", "-v", name]).catch(() => {});
    }
  });
  print(
    `adopt: done. ${volume} is as it was; remove it when you no longer want it (docker volume rm ${volume}). ` +
      `Migrations, hand-over and backups follow: pulumi refresh, then pulumi up`,
    { adopted: volume, stack },
  );
  return 0;
}

/** Adds what `./db adopt` takes and does to its command. */
export default function adoptCommand(command: Command): void {
  command
    .description(
      "Takes the data of a volume that the application's own database made (docker compose: PROJECT_postgres_data) into the stack's " +
        "database, with the import's proof. The stack must be up with bootstrap empty, and its database still be empty: adopt first, " +
        "then set alembic. The volume is only read: a server runs on a copy of it, and is removed afterwards.",
    )
    .argument("<volume>", "the volume; docker volume ls lists them")
    .option("--image <image>", "image to run the copy with (default: the one whose container used the volume)", value)
    .option("--database <name>", "which of the volume's databases, if it holds several", value)
    .action(onStack(adopt));
  addExamples(command, { "adopt the-game_postgres_data --stack mine": "into a stack of its own" });
}
