/** Seed data: the rows that the application needs, such as languages, translation namespaces and an administrator. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { RandomPassword } from "@pulumi/random";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { RoleAccess } from "../roles/roles.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import type { SeedSettings } from "./settings.ts";

const OWN_FOLDER = "sql/seed";
/** The file that inserts the administrator. If it inserts a row, the generated password is in use. */
export const ADMIN_FILE = "30-admin-user.sql";

/** A file of seed data. */
export interface SeedFile {
  name: string;
  sql: string;
}

/** Arguments of {@link Seed}. */
export interface SeedArgs {
  /** The server with the database, whose schema must be complete. */
  server: ServerAccess;
  /** The role that inserts. */
  owner: RoleAccess;
  /** The schema's revision; undefined without migrations. A new revision may add tables that files need. */
  revision: pulumi.Input<string | null> | undefined;
  /** Files, administrator and password scheme. */
  settings: SeedSettings;
}

/** The number of inserted rows by file; null if a table that the file needs does not exist. */
export type Seeded = Record<string, number | null>;

/** Inserts the seed data once; again only if a file changes, or if a table exists that was missing. */
export class Seed extends pulumi.ComponentResource {
  readonly rows: pulumi.Output<Seeded>;
  /** The administrator's generated password; null if the administrator already existed. */
  readonly adminPassword: pulumi.Output<string | null>;

  /** @throws {pulumi.ResourceError} if a file cannot be read. */
  constructor(name: string, args: SeedArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:seed:Seed", name, {}, opts);
    const { server, owner, revision, settings } = args;
    const password = new RandomPassword(
      `${name}-admin-password`,
      { length: 24, special: false },
      childOf(this, "admin-password"),
    ).result;
    const seeded = new SeededRows(
      `${name}-rows`,
      {
        ...superuserLogin(server),
        database: server.database,
        owner: owner.name,
        ownerPassword: owner.password,
        admin: settings.admin,
        adminPassword: password,
        passwordHash: settings.passwordHash,
        evenImported: settings.evenImported,
        files: readSeedFiles([OWN_FOLDER, ...settings.files], this),
        revision: revision ?? null,
      },
      { ...childOf(this, "seeded"), deletedWith: server.volume },
    );
    this.rows = seeded.rows;
    this.adminPassword = pulumi.secret(
      pulumi.all([password, seeded.adminMade]).apply(([text, isMade]) => (isMade ? text : null)),
    );
    this.registerOutputs({ rows: this.rows });
  }
}

/** Returns the files in order; those of a folder sorted by name. */
function readSeedFiles(paths: readonly string[], parent: pulumi.Resource): SeedFile[] {
  const read = (path: string): SeedFile[] => {
    if (!statSync(path).isDirectory()) return [{ name: basename(path), sql: readFileSync(path, "utf8") }];
    const names = readdirSync(path).filter((name) => name.endsWith(".sql"));
    return names.sort().flatMap((name) => read(join(path, name)));
  };
  return paths.flatMap((path) => {
    try {
      return read(path);
    } catch (error) {
      throw new pulumi.ResourceError(
        `seedFiles names ${path}, which cannot be read: ${(error as Error).message}`,
        parent,
        true,
      );
    }
  });
}

/** Inputs of {@link SeededRows}. */
export interface SeedInputs extends SuperuserLogin {
  database: string;
  owner: string;
  ownerPassword: string;
  admin: string;
  adminPassword: string;
  passwordHash: string;
  evenImported: boolean;
  files: SeedFile[];
  revision: string | null;
}

class SeededRows extends ResourceOnDisk {
  declare readonly rows: pulumi.Output<Seeded>;
  declare readonly adminMade: pulumi.Output<boolean>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("seed:Seeded", "components/seed/seed-provider.ts", name, inputs, ["rows", "adminMade", "fingerprint"], opts);
  }
}
