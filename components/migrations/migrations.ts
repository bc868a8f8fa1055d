/** The application's schema, kept at a revision of its Alembic chain. The work is done in run-migrations.ts. */
import { resolve } from "node:path";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { buildOf } from "../server/image.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { type ApplicationSpec, composeServiceOf, SERVICE_IMAGE } from "./application.ts";
import { type Revision, readChain } from "./chain.ts";

const IMAGE_FOLDER = "images/migrations";

/** What to migrate, and with what. */
export interface MigrationsArgs extends ServerAccess {
  stack: string;
  database: string;
  network: pulumi.Input<string>;
  alias: string;
  /** Who runs the migrations, and so owns what they make. */
  owner: { name: string; password: pulumi.Input<string> };
  /** The folder with alembic.ini. */
  folder: string;
  /**
   * Image with Alembic and all that the models import: its name; `generic` for one built on `pythonImage`; `auto` for the Compose
   * service's, else the generic one.
   */
  image: string;
  /** Python image that the generic image is built on. */
  pythonImage: string;
  /** The application's folder; undefined for the nearest one above `folder` with a Compose file. */
  application: string | undefined;
  /** The file of variables in it that the hand-over writes. */
  envFile: string;
  /** Name of the Compose service; undefined for the one that builds `folder`. */
  service: string | undefined;
  /** Further variables for the application: NAME=VALUE, or NAME for the value in the environment of `pulumi up`. */
  environment: readonly string[];
  /** Arguments for the alembic command, before its upgrade. */
  arguments: readonly string[];
  /** The wanted revision, or `head`. */
  revision: string;
  /** Whether an older revision may be gone back to. */
  allowDowngrade: boolean;
  dockerHost: string | undefined;
  /** Whether the settings name the engine; otherwise it is the one that the docker command uses. */
  dockerHostIsSet: boolean;
  /** The engine's provider, where it is not the default one. */
  engine: docker.Provider | undefined;
  /** Default privileges must be set: what the migrations make is born with its grants. */
  after: pulumi.Resource[];
}

/** Runs Alembic in a one-off container whenever the chain, the wanted revision or the image changes. */
export class Migrations extends pulumi.ComponentResource {
  /** The database's revision. */
  readonly revision: pulumi.Output<string | null>;
  readonly ready: pulumi.Resource;

  /** @throws {pulumi.ResourceError} when the folder is no Alembic project, or the Compose service that is named is not there. */
  constructor(name: string, args: MigrationsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:migrations:Migrations", name, {}, opts);
    const chain = orFail(() => readChain(args.folder), this);
    const application: ApplicationSpec = {
      alembic: chain.folder,
      folder: args.application === undefined ? undefined : resolve(args.application),
      envFile: args.envFile,
      service: args.service,
    };
    const image = orFail(() => this.chooseImage(args, application), this);
    const run = new AlembicRun(
      "migrated",
      {
        stack: args.stack,
        database: args.database,
        ...superuserLogin(args),
        network: args.network,
        alias: args.alias,
        owner: args.owner.name,
        ownerPassword: args.owner.password,
        folder: chain.folder,
        chain: chain.fingerprint,
        revisions: chain.revisions,
        image,
        application,
        // A value given in the settings may be a secret; all others are read when the migrations run.
        environment: pulumi.secret([...args.environment]),
        arguments: [...args.arguments],
        wantedRevision: args.revision,
        allowDowngrade: args.allowDowngrade,
        dockerHost: args.dockerHost,
      },
      { parent: this, dependsOn: args.after, deletedWith: args.volume },
    );
    this.revision = run.revision;
    this.ready = run;
    // Among the outputs, so that the program waits for it; nothing comes of it.
    this.registerOutputs({ revision: this.revision, compared: this.compareRevision(args) });
  }

  /** Warns where the database is at another revision than the last update brought it to, and this one does not migrate it. */
  private compareRevision({ stack, database, host, port, owner }: MigrationsArgs): pulumi.Output<undefined> {
    const compared = pulumi.all([this.revision, owner.password]).apply(async ([expected, password]) => {
      // Before the first migration there is nothing to compare with; mocks have no database.
      if (!expected) return undefined;
      const { revisionWarning } = await import("./revision.ts");
      const address = { host, port, database, user: owner.name, password };
      const warning = await revisionWarning({ stack, address, expected });
      if (warning !== undefined) await pulumi.log.warn(warning, this);
      return undefined;
    });
    return pulumi.unsecret(compared);
  }

  private chooseImage(args: MigrationsArgs, application: ApplicationSpec): pulumi.Input<string> {
    if (args.image === "auto" && composeServiceOf(application) !== undefined) return SERVICE_IMAGE;
    return args.image === "auto" || args.image === "generic" ? this.buildImage(args) : args.image;
  }

  private buildImage({ stack, pythonImage, dockerHostIsSet, engine }: MigrationsArgs): pulumi.Output<string> {
    return new docker.RemoteImage(
      "migrations-image",
      {
        name: `sectorwars-migrations-${stack.toLowerCase()}:latest`,
        ...buildOf(IMAGE_FOLDER, pythonImage, dockerHostIsSet),
        keepLocally: true,
      },
      { parent: this, provider: engine },
    ).imageId;
  }
}

function orFail<T>(work: () => T, parent: pulumi.Resource): T {
  try {
    return work();
  } catch (error) {
    throw new pulumi.ResourceError((error as Error).message, parent);
  }
}

/** Inputs of the resource, as its provider gets them. */
export interface MigrationsInputs extends SuperuserLogin {
  stack: string;
  database: string;
  network: string;
  alias: string;
  owner: string;
  ownerPassword: string;
  folder: string;
  /** Fingerprint of the versions. */
  chain: string;
  revisions: Revision[];
  /** The image; {@link SERVICE_IMAGE} for that of the Compose service, as it is when the migrations run. */
  image: string;
  application: ApplicationSpec;
  environment: string[];
  arguments: string[];
  wantedRevision: string;
  allowDowngrade: boolean;
  dockerHost: string | undefined;
}

class AlembicRun extends ResourceOnDisk {
  declare readonly revision: pulumi.Output<string | null>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super(
      "migrations:Migrated",
      "components/migrations/migrations-provider.ts",
      name,
      inputs,
      ["revision", "fingerprint"],
      opts,
    );
  }
}
