/** Keeps the application's schema at a revision of its Alembic chain. run-migrations.ts does the work. */
import { resolve } from "node:path";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { printable } from "../../lib/terminal.ts";
import { buildOf } from "../server/image.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { type ApplicationSpec, composeServiceOf, SERVICE_IMAGE } from "./application.ts";
import { type Revision, readChain } from "./chain.ts";

const IMAGE_FOLDER = "images/migrations";

/** Arguments of {@link Migrations}. */
export interface MigrationsArgs extends ServerAccess {
  stack: string;
  database: string;
  network: pulumi.Input<string>;
  alias: string;
  /** The role that runs the migrations and so owns the objects that they create. */
  owner: { name: string; password: pulumi.Input<string> };
  /** The folder with alembic.ini. */
  folder: string;
  /**
   * The image with Alembic and everything that the models import: its name; `generic` for one built on `pythonImage`; `auto` for
   * that of the Compose service, else the generic one.
   */
  image: string;
  /** The Python image that the generic image is built on. */
  pythonImage: string;
  /** The application's folder; undefined for the nearest one above `folder` with a Compose file. */
  application: string | undefined;
  /** The env file that the hand-over writes, relative to the application's folder. */
  envFile: string;
  /** The name of the Compose service; undefined for the one that builds `folder`. */
  service: string | undefined;
  /** Further variables for the application: NAME=VALUE, or NAME for the value in the environment of `pulumi up`. */
  environment: readonly string[];
  /** Arguments of the alembic command, before `upgrade`. */
  arguments: readonly string[];
  /** The wanted revision, or `head`. */
  revision: string;
  /** Whether the migrations may downgrade to an older revision. */
  allowDowngrade: boolean;
  dockerHost: string | undefined;
  /** Whether the settings name the engine; otherwise it is that of the docker command. */
  dockerHostIsSet: boolean;
  /** The engine's provider, if it is not the default one. */
  engine: docker.Provider | undefined;
  /** Resources that must exist first. Default privileges are among them, so that new objects get their grants. */
  after: pulumi.Resource[];
}

/** Runs Alembic in a one-off container whenever the chain, the wanted revision or the image changes. */
export class Migrations extends pulumi.ComponentResource {
  /** The database's revision. */
  readonly revision: pulumi.Output<string | null>;
  readonly ready: pulumi.Resource;

  /** @throws {pulumi.ResourceError} if the folder is not an Alembic project, or the named Compose service does not exist. */
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
        // The setting may contain secrets. All other variables are read when the migrations run, and stay out of the state.
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
    // An output, so that the program waits for the comparison; its value is undefined.
    this.registerOutputs({ revision: this.revision, compared: this.compareRevision(args) });
  }

  /** Warns if the database is not at the revision of the last update, and this update does not migrate it. */
  private compareRevision({ stack, database, host, port, owner }: MigrationsArgs): pulumi.Output<undefined> {
    const compared = pulumi.all([this.revision, owner.password]).apply(async ([expected, password]) => {
      // There is no revision before the first migration; tests with mocks have no database.
      if (!expected) return undefined;
      const { revisionWarning } = await import("./revision.ts");
      const address = { host, port, database, user: owner.name, password };
      const warning = await revisionWarning({ stack, address, expected });
      if (warning !== undefined) await pulumi.log.warn(printable(warning), this);
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

/** Inputs of the resource, as its provider receives them. */
export interface MigrationsInputs extends SuperuserLogin {
  stack: string;
  database: string;
  network: string;
  alias: string;
  owner: string;
  ownerPassword: string;
  folder: string;
  /** The fingerprint of the versions. */
  chain: string;
  revisions: Revision[];
  /** The image; {@link SERVICE_IMAGE} for that of the Compose service, which is resolved when the migrations run. */
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
