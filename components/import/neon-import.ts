/** Declares the one-time import. import-provider.ts runs it when Pulumi creates the resource. */
import * as pulumi from "@pulumi/pulumi";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import type { RoleAccess } from "../roles/roles.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { reportFolder } from "./report/folder.ts";
import type { RawSelection } from "./selection/selection-settings.ts";
import type { Bootstrap } from "./settings.ts";
import type { SafetyCopySettings } from "./types.ts";

/** Where the data comes from, and how it is copied. */
export interface ImportSettings {
  /** Where the data comes from: `neon` (NEON_DATABASE_URL), `sample`, `backup`, or nowhere: `empty`. */
  readonly bootstrap: Bootstrap;
  /** Whether the user chose {@link bootstrap}; otherwise it depends on the environment, whose change is not a change of the setting. */
  readonly bootstrapChosen: boolean;
  /** The number of tables that are copied at the same time. */
  readonly jobs: number;
  /** Image with a newer pg_dump, for sources newer than 15. */
  readonly newerImage: string;
  /** Where the safety copy is written; undefined for none. */
  readonly safetyCopy: SafetyCopySettings | undefined;
  /** The parts of the source to copy, as written. */
  readonly selection: RawSelection;
}

/** Source and target of the import. */
export interface NeonImportArgs {
  /** The server that the data is imported into. */
  server: ServerAccess;
  /**
   * The role that owns everything that is imported, and whose sessions load it. All roles must exist first, because the imported tables
   * get their default grants on creation.
   */
  owner: RoleAccess;
  /** Tables that readonly must not read; * stands for any characters. */
  denyList: readonly string[];
  /** The source, and how it is copied. */
  settings: ImportSettings;
}

/** Imports into the database once, with proof, or records that it began empty. Later updates do not connect to the source. */
export class NeonImport extends pulumi.ComponentResource {
  /** What was imported: counts and fingerprints, no address. Null if the stack began empty. */
  readonly summary: pulumi.Output<ImportSummary | null>;

  constructor(name: string, args: NeonImportArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:import:NeonImport", name, {}, opts);
    const { server, owner, denyList, settings } = args;
    const once = new ImportOnce(
      `${name}-once`,
      {
        ...superuserLogin(server),
        stack: server.stack,
        database: server.database,
        container: server.containerName,
        network: server.networkName,
        alias: server.alias,
        image: server.imageId,
        dockerHost: server.dockerHost,
        owner: owner.name,
        ownerPassword: owner.password,
        denyList,
        bootstrap: settings.bootstrap,
        bootstrapChosen: settings.bootstrapChosen,
        jobs: settings.jobs,
        newerImage: settings.newerImage,
        safetyCopy: settings.safetyCopy,
        selection: settings.selection,
        reportFolder: reportFolder(server.stack),
      },
      { ...childOf(this, "once"), deletedWith: server.volume },
    );
    this.summary = once.summary;
    this.registerOutputs({ summary: this.summary });
  }
}

/** Inputs that the resource's provider receives. */
export interface NeonImportInputs extends SuperuserLogin, ImportSettings {
  stack: string;
  database: string;
  /** The server's container. */
  container: string;
  /** The stack's network, and the server's name in it. */
  network: string;
  alias: string;
  /** Image with pg_dump of the server's version. */
  image: string;
  dockerHost: string | undefined;
  owner: string;
  ownerPassword: string;
  denyList: readonly string[];
  reportFolder: string;
}

class ImportOnce extends ResourceOnDisk {
  declare readonly summary: pulumi.Output<ImportSummary | null>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("import:ImportOnce", "components/import/import-provider.ts", name, inputs, ["summary"], opts);
  }
}
