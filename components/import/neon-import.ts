/** Declares the one-time import. import-provider.ts runs it when Pulumi creates the resource. */
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { reportFolder } from "./report/folder.ts";
import type { RawSelection } from "./selection/selection-settings.ts";
import type { Bootstrap } from "./settings.ts";
import type { SafetyCopySettings } from "./types.ts";

/** Source and target of the import. */
export interface NeonImportArgs extends ServerAccess {
  stack: string;
  /** Where the data comes from: `neon` (NEON_DATABASE_URL), `sample`, or nowhere: `empty`. */
  bootstrap: Bootstrap;
  /** Whether the user set it. A default that changes with the environment is not a change of the setting. */
  bootstrapChosen: boolean;
  database: string;
  /** The server's container, and where its port is published. */
  container: string;
  /** Role that owns everything that is imported, and whose sessions load it. */
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
  /** Where the safety copy is written; no copy is made if undefined. */
  safetyCopy: SafetyCopySettings | undefined;
  /** What of the source is copied. */
  selection: RawSelection;
  /** The roles, which must exist first, because the imported tables get their default grants on creation. */
  after: pulumi.Resource[];
}

/** Imports into the database once, with proof, or records that it began empty. Later updates do not connect to the source. */
export class NeonImport extends pulumi.ComponentResource {
  /** What was imported: counts and fingerprints, no address. Null if the stack began empty. */
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

/** Inputs that the resource's provider receives. */
export interface NeonImportInputs extends SuperuserLogin, OwnInputs {
  reportFolder: string;
}

class ImportOnce extends ResourceOnDisk {
  declare readonly summary: pulumi.Output<ImportSummary | null>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("import:ImportOnce", "components/import/import-provider.ts", name, inputs, ["summary"], opts);
  }
}
