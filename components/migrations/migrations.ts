/** Keeps the application's schema at a revision of its Alembic chain. run-migrations.ts does the work. */
import { resolve } from "node:path";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { printable } from "../../lib/terminal.ts";
import type { RoleAccess } from "../roles/roles.ts";
import { buildOf } from "../server/image.ts";
import { loginAddress, type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { type ApplicationSpec, composeServiceOf, SERVICE_IMAGE } from "./application.ts";
import { type Chain, type Revision, readChain } from "./chain.ts";
import type { MigrationsSettings } from "./settings.ts";

const IMAGE_FOLDER = "images/migrations";

/** Arguments of {@link Migrations}. */
export interface MigrationsArgs {
  /** The server with the database. */
  server: ServerAccess;
  /** The role that runs the migrations and so owns the objects that they create. */
  owner: RoleAccess;
  /** The Alembic project, and how it runs. */
  settings: MigrationsSettings;
}

/**
 * Runs Alembic in a one-off container whenever the chain, the wanted revision or the image changes. `dependsOn` names what must exist before
 * Alembic runs; default privileges are among it, so that new objects get their grants. The image does not wait for it: it is built while
 * the data is imported.
 */
export class Migrations extends pulumi.ComponentResource {
  /** The database's revision. */
  readonly revision: pulumi.Output<string | null>;

  /** @throws {pulumi.ResourceError} if the folder is not an Alembic project, or the named Compose service does not exist. */
  constructor(name: string, args: MigrationsArgs, opts: pulumi.ComponentResourceOptions = {}) {
    const { dependsOn, ...ownOptions } = opts;
    super("sectorwars:migrations:Migrations", name, {}, ownOptions);
    const { settings, server } = args;
    const chain = orFail(() => readChain(settings.folder), this);
    const application: ApplicationSpec = {
      alembic: chain.folder,
      folder: settings.application === undefined ? undefined : resolve(settings.application),
      envFile: settings.envFile,
      service: settings.service,
    };
    const image = orFail(() => this.chooseImage(name, args, application), this);
    const run = new AlembicRun(`${name}-run`, runInputs(args, chain, application, image), {
      ...childOf(this, "migrated"),
      dependsOn,
      deletedWith: server.volume,
    });
    this.revision = run.revision;
    // An output, so that the program waits for the comparison; its value is undefined.
    this.registerOutputs({ revision: this.revision, compared: this.compareRevision(args) });
  }

  /** Warns if the database is not at the revision of the last update, and this update does not migrate it. */
  private compareRevision({ server, owner }: MigrationsArgs): pulumi.Output<undefined> {
    const { stack, database, host, port } = server;
    const known = pulumi.all([this.revision, owner.password, server.authority]);
    const compared = known.apply(async ([expected, password, authority]) => {
      // There is no revision before the first migration; tests with mocks have no database.
      if (!expected) return undefined;
      const { revisionWarning } = await import("./revision.ts");
      const address = loginAddress({ host, port, database, user: owner.name, password, authority });
      const warning = await revisionWarning({ stack, address, expected });
      if (warning !== undefined) await pulumi.log.warn(printable(warning), this);
      return undefined;
    });
    return pulumi.unsecret(compared);
  }

  private chooseImage(name: string, args: MigrationsArgs, application: ApplicationSpec): pulumi.Input<string> {
    const { image } = args.settings;
    if (image === "auto" && composeServiceOf(application) !== undefined) return SERVICE_IMAGE;
    return image === "auto" || image === "generic" ? this.buildImage(name, args) : image;
  }

  private buildImage(name: string, { server, settings }: MigrationsArgs): pulumi.Output<string> {
    return new docker.RemoteImage(
      `${name}-image`,
      {
        name: `sectorwars-migrations-${server.stack.toLowerCase()}:latest`,
        ...buildOf(IMAGE_FOLDER, settings.pythonImage, server.dockerHostIsSet),
        keepLocally: true,
      },
      { parent: this },
    ).imageId;
  }
}

/** Returns the inputs of {@link AlembicRun}. */
function runInputs(
  { server, owner, settings }: MigrationsArgs,
  chain: Chain,
  application: ApplicationSpec,
  image: pulumi.Input<string>,
): pulumi.Inputs {
  return {
    stack: server.stack,
    database: server.database,
    ...superuserLogin(server),
    network: server.networkName,
    alias: server.alias,
    owner: owner.name,
    ownerPassword: owner.password,
    folder: chain.folder,
    chain: chain.fingerprint,
    revisions: chain.revisions,
    image,
    application,
    // The setting may contain secrets. All other variables are read when the migrations run, and stay out of the state.
    environment: pulumi.secret([...settings.environment]),
    arguments: [...settings.arguments],
    wantedRevision: settings.revision,
    allowDowngrade: settings.allowDowngrade,
    dockerHost: server.dockerHost,
  };
}

/** Runs work whose errors the user can act on, so that Pulumi prints them without a stack trace. */
function orFail<T>(work: () => T, parent: pulumi.Resource): T {
  try {
    return work();
  } catch (error) {
    throw new pulumi.ResourceError((error as Error).message, parent, true);
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
