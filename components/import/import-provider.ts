/** The import as a resource: it happens once, and never touches a database that has data. Runs in Pulumi's dynamic provider. */

import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { removeContainers } from "../../lib/docker.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { outsideScopes } from "../../lib/scope.ts";
import { preparationScript } from "../privileges/scripts.ts";
import { loginAddress } from "../server/server-access.ts";
import { besideServer, directAddress } from "./direct.ts";
import { noteNeonAttempt, refuseUnintendedSample } from "./intended-source.ts";
import type { NeonImportInputs } from "./neon-import.ts";
import { startSample } from "./sample.ts";
import { helperLabel } from "./schema.ts";
import { parseSelection, type RawSelection } from "./selection-settings.ts";
import { sourceFromEnvironment } from "./source-environment.ts";
import { clearAside, lockServer, readMarker } from "./swap.ts";
import type { Source, Target } from "./types.ts";
import { runImport } from "./worker.ts";

/** Shown by Pulumi while the update runs. */
const say = (line: string) => console.log(line);

/** The stack's database as an import's target, by the resource's inputs. */
export const targetOf = async (inputs: NeonImportInputs): Promise<Target> => ({
  address: await directAddress(inputs.container, loginAddress(inputs), inputs.dockerHost),
  owner: inputs.owner,
  ownerPassword: inputs.ownerPassword,
  roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
  preparation: (database) => preparationScript(database, inputs.denyList),
  fromContainer: besideServer(inputs.container),
  container: inputs.container,
});

/** What the target says of a former import: then no source need be there at all. */
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

/** Nobody gets the sample who wanted Neon, and a URL that is not used is mentioned. */
async function checkIntention(client: pg.Client, { bootstrap, bootstrapChosen, database }: NeonImportInputs) {
  if (bootstrap === "neon") await noteNeonAttempt(client, database);
  else if (bootstrapChosen) sayUnused(`bootstrap is ${bootstrap}`);
  else await refuseUnintendedSample(client, database);
}

const sayUnused = (why: string) => {
  if (process.env.NEON_DATABASE_URL) say(`import: NEON_DATABASE_URL is set, but not used: ${why}`);
};

/** Imports, unless that has been done. Called off, it leaves nothing: neither sessions nor containers nor a database aside. */
async function importOnce(inputs: NeonImportInputs): Promise<ImportSummary> {
  const clear = () => removeContainers(helperLabel(inputs.stack), { host: inputs.dockerHost });
  const former = await formerImport(inputs);
  if (former) {
    await withConnection(maintenance(loginAddress(inputs)), (client) => clearAside(client, inputs.database));
    // A run that was killed behind its swap has left its own.
    await clear();
    sayUnused(`this database was imported at ${former.finishedAt}`);
    return former;
  }
  // Before anything is cleared that might be in use.
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
    // Also where all else was called off. What is left over is cleared by the next run, and is no reason to fail.
    await outsideScopes(clear).catch((error: Error) => say(`import: ${error.message}`));
  }
}

/** The selection of a state that knows none yet. */
export const WHOLE: RawSelection = { importExclude: [], importSchemaOnly: false, importSubset: [], importMasks: [] };

/** Somebody who adds a mask must not believe that it covers what was imported before. */
function refuseOtherSelection(olds: NeonImportInputs, news: NeonImportInputs): void {
  if (olds.bootstrap === "empty") return;
  const [before, now] = [olds, news].map(({ selection }) => ({ ...WHOLE, ...selection })) as [
    RawSelection,
    RawSelection,
  ];
  for (const key of Object.keys(WHOLE) as (keyof RawSelection)[]) {
    if (JSON.stringify(before[key]) === JSON.stringify(now[key])) continue;
    throw new Error(
      `${key} is now ${JSON.stringify(now[key])}, but this stack's data was imported with ${JSON.stringify(before[key])}, and data ` +
        `that is there is never changed. Set it back, reset the stack (pulumi destroy, then pulumi up), or make a new one ` +
        `(pulumi stack init NAME).`,
    );
  }
}

/** What a backup brought along was imported in a former life, or never. */
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
   * Nothing that changes later is a reason to import again; a changed mind about where the data comes from is an error. That
   * it is to come from the backup is none: so a stack goes on whose volume was lost, with all else of it as it was.
   */
  async diff(_id, olds: NeonImportInputs & { summary?: ImportSummary | null }, news: NeonImportInputs) {
    if (news.bootstrapChosen && news.bootstrap !== olds.bootstrap && news.bootstrap !== "backup") {
      throw new Error(
        `This stack's data came from "${olds.bootstrap}"; bootstrap is now "${news.bootstrap}", but data that is there is never ` +
          `replaced. Set it back (pulumi config set bootstrap ${olds.bootstrap}), reset the stack (pulumi destroy, then ` +
          `pulumi up), or make a new one (pulumi stack init NAME).`,
      );
    }
    refuseOtherSelection(olds, news);
    if (olds.summary) sayUnused(`this stack's data was imported at ${olds.summary.finishedAt}`);
    return { changes: news.passwordVersion !== olds.passwordVersion, replaces: [], deleteBeforeReplace: false };
  },

  /** A new password is only noted, for the next look at the database. */
  async update(_id, olds: NeonImportInputs & { summary: ImportSummary | null }, news: NeonImportInputs) {
    return { outs: { ...news, bootstrap: olds.bootstrap, selection: olds.selection, summary: olds.summary } };
  },

  async create(inputs: NeonImportInputs) {
    const summary = await summaryOf(inputs);
    return { id: `${inputs.database} from ${inputs.bootstrap}`, outs: { ...inputs, summary } };
  },

  /** A volume that was lost or made anew has no marker: then the resource is gone, and the next update imports again. */
  async read(id, props) {
    if (props === undefined) throw new Error("an import cannot be taken over from elsewhere; run pulumi up");
    // A refresh has imported since, or an adoption.
    const summary = await formerImport(props as NeonImportInputs);
    if (summary) return { id, props: { ...props, summary } };
    return ["empty", "backup"].includes((props as NeonImportInputs).bootstrap) ? { id, props } : {};
  },

  /** The data goes with its volume. Only what a run that was killed may have left is cleared. */
  async delete(_id, props: NeonImportInputs) {
    await removeContainers(helperLabel(props.stack), { host: props.dockerHost }).catch(() => {});
  },
};
