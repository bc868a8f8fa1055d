/** `./db adopt`: imports the data of the volume of the application's own database. */

import type { Command } from "@commander-js/extra-typings";
import { announceRecoveryTarget } from "../components/backups/confirm-target.ts";
import { reportFolder } from "../components/import/report/folder.ts";
import { runImport } from "../components/import/run/run-import.ts";
import { findRelations } from "../components/import/schema/catalog.ts";
import { directAddress } from "../components/import/session/direct.ts";
import { lockServer, readMarker } from "../components/import/staging/swap.ts";
import { preparationScript } from "../components/privileges/scripts.ts";
import { cancellable } from "../lib/cancellation.ts";
import { type DockerError, docker, isRemoteEngine } from "../lib/docker.ts";
import { newerImage, readImages } from "../lib/images.ts";
import { namesFor } from "../lib/naming.ts";
import { type Address, maintenance, withConnection } from "../lib/postgres.ts";
import { Scope } from "../lib/scope.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { ALIAS, imageOf, onlyDatabase, publishedPort, SUPERUSER, startServer } from "./support/adopt-source.ts";
import { ownerOf } from "./support/owner.ts";
import { addExamples, type Invocation, onStack, value } from "./support/subcommand.ts";

/** Returns the deny list of the stack's own database. */
async function deniedIn(url: string): Promise<string[]> {
  return withConnection(addressOf(url), async (client) => {
    const { rows } = await client.query<{ pattern: string }>("SELECT pattern FROM sectorwars_stack.readonly_denied");
    // The table stores LIKE patterns; preparationScript needs names with *.
    return rows.map(({ pattern }) => pattern.replaceAll(/\\(.)|%/g, (_, escaped?: string) => escaped ?? "*"));
  });
}

/** Checks that the stack is empty before the volume is copied, which may be large. The import checks this too. */
async function assertEmpty(target: Address, stack: string): Promise<void> {
  const remedy = `Adopting never overwrites data. Adopt into a new stack: ./script/up --stack NAME, with bootstrap empty`;
  const { imported, relations } = await withConnection(target, async (client) => ({
    imported: await readMarker(client),
    relations: await findRelations(client),
  }));
  if (imported) throw new Error(`The stack ${stack} already contains an import from ${imported.source}. ${remedy}.`);
  if (relations.length > 0) throw new Error(`${target.database} is not empty (${relations.join(", ")}). ${remedy}.`);
}

async function adopt(
  { stack, say, print }: Invocation,
  volume: string,
  wanted: { image?: string; database?: string },
): Promise<number> {
  if (isRemoteEngine(undefined)) {
    throw new Error(
      `The Docker engine is on another machine (DOCKER_HOST is ${process.env.DOCKER_HOST}), whose ports this machine cannot reach. ` +
        `Run ./db adopt there.`,
    );
  }
  const outputs = await readStack(stack);
  const target = addressOf(outputs.urls.superuser ?? "");
  await docker(["volume", "inspect", volume]).catch((error: DockerError) => {
    throw new Error(
      /no such volume/i.test(error.stderr)
        ? `The volume ${volume} does not exist. To list volumes: docker volume ls`
        : error.message,
    );
  });
  await assertEmpty(target, stack);
  if (volume === namesFor(stack).volume) throw new Error(`${volume} is this stack's own volume.`);
  const stackImage = (await docker(["inspect", "-f", "{{.Image}}", outputs.container])).trim();
  const image = wanted.image ?? (await imageOf(volume)) ?? stackImage;
  const denyList = await deniedIn(outputs.urls.superuser ?? "");
  const name = `sectorwars-${stack}-adopt`;
  const importVolume = async () => {
    // Lock first, because the leftover container may belong to an adoption that is still running.
    await withConnection(maintenance(target), async (client) => {
      await lockServer(client);
      await announceRecoveryTarget(stack, client, (line) => say(`adopt: ${line}`));
    });
    await docker(["rm", "-f", "-v", name]).catch(() => {});
    say(`adopt: starting a server of ${image} on a copy of ${volume}`);
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
    signal.addEventListener("abort", () => scope.close(new Error(`Stopped. ${volume} and the stack are unchanged.`)));
    try {
      await scope.run(importVolume);
    } finally {
      await docker(["rm", "-f", "-v", name]).catch(() => {});
    }
  });
  print(
    `adopt: done. ${volume} is unchanged; remove it when you no longer need it (docker volume rm ${volume}). ` +
      `For migrations, hand-over and backups: pulumi refresh, then pulumi up`,
    { adopted: volume, stack },
  );
  return 0;
}

/** Configures the command `./db adopt`. */
export default function adoptCommand(command: Command): void {
  command
    .description(
      "Imports the data of the volume of the application's own database (docker compose: PROJECT_postgres_data) into the stack's " +
        "database, with the import's proof. The stack must be up with bootstrap empty, and its database must be empty: adopt first, " +
        "then set alembic. The volume is only read: a temporary server runs on a copy of it.",
    )
    .argument("<volume>", "the volume; to list volumes: docker volume ls")
    .option(
      "--image <image>",
      "the image for the temporary server (default: the image of the container that used the volume)",
      value,
    )
    .option("--database <name>", "the database to import, if the volume contains several", value)
    .action(onStack(adopt));
  addExamples(command, { "adopt the-game_postgres_data --stack mine": "import into the stack mine" });
}
