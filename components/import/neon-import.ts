/** The one-time import, declared. The work is done in import-provider.ts, when Pulumi creates the resource. */
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { reportFolder } from "./report-folder.ts";
import type { RawSelection } from "./selection-settings.ts";
import type { Bootstrap } from "./settings.ts";
import type { SafetyCopySettings } from "./types.ts";

/** What to import, and into what. */
export interface NeonImportArgs extends ServerAccess {
  stack: string;
  /** Where the data comes from: `neon` (NEON_DATABASE_URL), `sample`, or nowhere: `empty`. */
  bootstrap: Bootstrap;
  /** Whether somebody chose it: a default that changes with the environment is no change of mind. */
  bootstrapChosen: boolean;
  database: string;
  /** The server's container, and where its port is published. */
  container: string;
  /** Role that owns all that is imported, and in whose sessions it is loaded. */
  owner: string;
  ownerPassword: pulumi.Input<string>;
  /** Tables that readonly must not read. */
  denyList: readonly string[];
  /** The stack's network, and the server's name in it. */
  network: pulumi.Input<string>;
  alias: string;
  /** Image with pg_dump of the server's version. */
  image: pulumi.Input<string>;
  /** Image with a newer pg_dump. */
  newerImage: string;
  /** Tables copied at the same time. */
  jobs: number;
  dockerHost: string | undefined;
  /** Where an encrypted copy of the source is kept; none is made without. */
  safetyCopy: SafetyCopySettings | undefined;
  /** What of the source comes along. */
  selection: RawSelection;
  /** Roles must be there: the import's tables are born with their grants. */
  after: pulumi.Resource[];
}

/** Fills the database once, with proof, or notes that it began empty. Later updates open no connection to the source. */
export class NeonImport extends pulumi.ComponentResource {
  /** What was imported: counts and fingerprints, no address. Null where the stack began empty. */
  readonly summary: pulumi.Output<ImportSummary | null>;
  readonly ready: pulumi.Resource;

  constructor(name: string, args: NeonImportArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:import:NeonImport", name, {}, opts);
    const { after, volume, superuser: _user, superuserPassword: _password, ...rest } = args;
    const once = new ImportOnce(
      "once",
      { ...rest, ...superuserLogin(args), reportFolder: reportFolder(args.stack) },
      { parent: this, dependsOn: after, deletedWith: volume },
    );
    this.summary = once.summary;
    this.ready = once;
    this.registerOutputs({ summary: this.summary });
  }
}

type OwnInputs = pulumi.Unwrap<Omit<NeonImportArgs, keyof ServerAccess | "after">>;

/** Inputs of the resource, as its provider gets them. */
export interface NeonImportInputs extends SuperuserLogin, OwnInputs {
  reportFolder: string;
}

class ImportOnce extends ResourceOnDisk {
  declare readonly summary: pulumi.Output<ImportSummary | null>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("import:ImportOnce", "components/import/import-provider.ts", name, inputs, ["summary"], opts);
  }
}
