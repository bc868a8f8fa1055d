/** The import as a resource: it runs once, and never changes a database that has data. Runs in Pulumi's dynamic provider. */

import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { removeContainers } from "../../lib/docker.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { outsideScopes } from "../../lib/scope.ts";
import { preparationScript } from "../privileges/scripts.ts";
import { isLoginChanged, loginAddress } from "../server/server-access.ts";
import type { NeonImportInputs } from "./neon-import.ts";
import { runImport } from "./run/run-import.ts";
import { helperLabel } from "./schema/schema.ts";
import { parseSelection, type RawSelection } from "./selection/selection-settings.ts";
import { besideServer, directAddress } from "./session/direct.ts";
import { noteNeonAttempt, refuseUnintendedSample } from "./source/intended-source.ts";
import { startSample } from "./source/sample.ts";
import { sourceFromEnvironment } from "./source/source-environment.ts";
import { clearStaging, lockServer, readMarker } from "./staging/swap.ts";
import type { Source, Target } from "./types.ts";

/** Prints a line that Pulumi shows while the update runs. */
const say = (line: string) => console.log(line);

/** Returns the stack's database as an import's target, from the resource's inputs. */
export const targetOf = async (inputs: NeonImportInputs): Promise<Target> => ({
  address: await directAddress(inputs.container, loginAddress(inputs), inputs.dockerHost),
  owner: inputs.owner,
  ownerPassword: inputs.ownerPassword,
  roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
  preparation: (database) => preparationScript(database, inputs.denyList),
  fromContainer: besideServer(inputs.container),
  container: inputs.container,
});

/** Reads the summary of an earlier import from the target. If there is one, no source is needed. */
const formerImport = (inputs: NeonImportInputs): Promise<ImportSummary | undefined> =>
  withConnection(loginAddress(inputs), readMarker, { patienceMs: 30_000 });

async function openSourceOf(inputs: NeonImportInputs): Promise<Source> {
  if (inputs.bootstrap === "sample") {
    say("import: starting the sample source");
    return startSample({
      stack: inputs.stack,
      image: inputs.image,
      network: inputs.network,
      dockerHost: inputs.dockerHost,
    });
  }
  return sourceFromEnvironment("bootstrap is neon");
}

/** Refuses the sample if the user probably wanted Neon, and reports an unused URL. */
async function checkIntention(client: pg.Client, { bootstrap, bootstrapChosen, database }: NeonImportInputs) {
  if (bootstrap === "neon") await noteNeonAttempt(client, database);
  else if (bootstrapChosen) sayUnused(`bootstrap is ${bootstrap}`);
  else await refuseUnintendedSample(client, database);
}

const sayUnused = (why: string) => {
  if (process.env.NEON_DATABASE_URL) say(`import: NEON_DATABASE_URL is set, but not used: ${why}`);
};

/** Runs the import, unless the target was imported before. A cancelled import leaves no session, container or staging database. */
async function importOnce(inputs: NeonImportInputs): Promise<ImportSummary> {
  const clear = () => removeContainers(helperLabel(inputs.stack), { host: inputs.dockerHost });
  const former = await formerImport(inputs);
  if (former) {
    await withConnection(maintenance(loginAddress(inputs)), (client) => clearStaging(client, inputs.database));
    // A run that was killed after its swap has left its containers.
    await clear();
    sayUnused(`this database was imported at ${former.finishedAt}`);
    return former;
  }
  // The lock comes first: without it, another import might still use what is removed below.
  await withConnection(maintenance(loginAddress(inputs)), async (client) => {
    await lockServer(client);
    await checkIntention(client, inputs);
  });
  await clear();
  try {
    const spec = {
      source: await openSourceOf(inputs),
      target: await targetOf(inputs),
      stack: inputs.stack,
      image: inputs.image,
      newerImage: inputs.newerImage,
      dockerHost: inputs.dockerHost,
      jobs: inputs.jobs,
      reportFolder: inputs.reportFolder,
      safetyCopy: inputs.safetyCopy,
      selection: parseSelection({ ...WHOLE, ...inputs.selection }).selection,
      maskSecret: process.env.SECTORWARS_MASK_SECRET || undefined,
    };
    return await runImport(spec, { say });
  } finally {
    // Outside the scope, so that it also runs after a cancellation. If it fails, the next run removes the containers.
    await outsideScopes(clear).catch((error: Error) => say(`import: ${error.message}`));
  }
}

/** The selection for a state from before selections existed. */
export const WHOLE: RawSelection = { importExclude: [], importSchemaOnly: false, importSubset: [], importMasks: [] };

/** Refuses a changed selection after the import: for instance, a mask added now would not cover the imported rows. */
function refuseOtherSelection(olds: NeonImportInputs, news: NeonImportInputs): void {
  if (olds.bootstrap === "empty") return;
  const [before, now] = [olds, news].map(({ selection }) => ({ ...WHOLE, ...selection })) as [
    RawSelection,
    RawSelection,
  ];
  for (const key of Object.keys(WHOLE) as (keyof RawSelection)[]) {
    if (JSON.stringify(before[key]) === JSON.stringify(now[key])) continue;
    throw new Error(
      `${key} is now ${JSON.stringify(now[key])}, but this stack's data was imported with ${JSON.stringify(before[key])}, and existing ` +
        `data is never changed. Set it back, reset the stack (pulumi destroy, then pulumi up), or create another stack ` +
        `(pulumi stack init NAME).`,
    );
  }
}

/** Returns the summary for the state. Data restored from a backup has that of its import, if there was one. */
async function summaryOf(inputs: NeonImportInputs): Promise<ImportSummary | null> {
  if (inputs.bootstrap === "empty") {
    sayUnused("bootstrap is empty");
    return null;
  }
  if (inputs.bootstrap === "backup") return (await formerImport(inputs)) ?? null;
  return importOnce(inputs);
}

export const provider: dynamic.ResourceProvider = {
  /**
   * No later change makes the import run again, and another `bootstrap` is an error. The exception is `backup`, which restores a stack
   * whose volume was lost.
   */
  async diff(_id, olds: NeonImportInputs & { summary?: ImportSummary | null }, news: NeonImportInputs) {
    if (news.bootstrapChosen && news.bootstrap !== olds.bootstrap && news.bootstrap !== "backup") {
      throw new Error(
        `bootstrap is now "${news.bootstrap}", but this stack's data came from "${olds.bootstrap}", and existing data is never ` +
          `replaced. Set it back (pulumi config set bootstrap ${olds.bootstrap}), reset the stack (pulumi destroy, then ` +
          `pulumi up), or create another stack (pulumi stack init NAME).`,
      );
    }
    refuseOtherSelection(olds, news);
    if (olds.summary) sayUnused(`this stack's data was imported at ${olds.summary.finishedAt}`);
    return { changes: isLoginChanged(olds, news), replaces: [], deleteBeforeReplace: false };
  },

  /** Stores the new password in the state, for the next read of the database. */
  async update(_id, olds: NeonImportInputs & { summary: ImportSummary | null }, news: NeonImportInputs) {
    return { outs: { ...news, bootstrap: olds.bootstrap, selection: olds.selection, summary: olds.summary } };
  },

  async create(inputs: NeonImportInputs) {
    const summary = await summaryOf(inputs);
    return { id: `${inputs.database} from ${inputs.bootstrap}`, outs: { ...inputs, summary } };
  },

  /** A database on a new volume has no marker. The resource then counts as deleted, and the next update imports again. */
  async read(id, props) {
    if (props === undefined) throw new Error("pulumi import does not support this resource; run pulumi up");
    // ./db refresh or ./db adopt may have imported since.
    const summary = await formerImport(props as NeonImportInputs);
    if (summary) return { id, props: { ...props, summary } };
    return ["empty", "backup"].includes((props as NeonImportInputs).bootstrap) ? { id, props } : {};
  },

  /** Removes only containers of a killed run: the data is deleted with its volume. */
  async delete(_id, props: NeonImportInputs) {
    await removeContainers(helperLabel(props.stack), { host: props.dockerHost }).catch(() => {});
  },
};
