/** Settings of the Alembic migrations. */
import { flag, list, matches, secretList, text, type ValuesOf } from "../../lib/setting.ts";

/** How migrations run. */
export interface MigrationsSettings {
  /** The folder of the Alembic project, with alembic.ini. */
  readonly folder: string;
  /**
   * The image with Alembic and everything that the models import: its name; `generic` for one built on {@link pythonImage}; `auto` for
   * that of the Compose service, else the generic one.
   */
  readonly image: string;
  /** The application's folder; undefined for the nearest one above `folder` with a Compose file. */
  readonly application: string | undefined;
  /** The env file that the hand-over writes, relative to the application's folder. */
  readonly envFile: string;
  /** The Compose service whose environment and image the migrations use; undefined for the one that builds `folder`. */
  readonly service: string | undefined;
  /** Further variables for the migrations: NAME=VALUE, or NAME for the value in the environment. */
  readonly environment: readonly string[];
  /** Arguments of the alembic command, before `upgrade`. */
  readonly arguments: readonly string[];
  /** The wanted revision, or `head`. */
  readonly revision: string;
  /** Whether the migrations may downgrade to an older revision. */
  readonly allowDowngrade: boolean;
  /** The Python image that this project's own image is built on. */
  readonly pythonImage: string;
}

export const MIGRATIONS_SETTINGS = {
  alembic: text(),
  alembicImage: text(),
  alembicService: text(matches(/^[a-zA-Z0-9._-]+$/, "use the name of a service from the Compose file, or auto")),
  alembicEnvironment: secretList(),
  alembicArguments: list(),
  alembicRevision: text(matches(/^[\w.@+-]+$/, "use a revision id, head or base")),
  alembicDowngrade: flag(),
};

export type MigrationsValues = ValuesOf<typeof MIGRATIONS_SETTINGS>;

/** Returns what is wrong with the variables for the migrations, without their values, which may be secrets. Pure. */
export function environmentProblems({ alembicEnvironment }: MigrationsValues): string[] {
  const wrong = alembicEnvironment.findIndex(
    (entry) => !/^(?!DATABASE_URL(?:=|$))[A-Za-z_]\w*(?:=[\s\S]*)?$/.test(entry),
  );
  if (wrong < 0) return [];
  return [
    `alembicEnvironment[${wrong}]: use NAME=VALUE, or NAME for the value in the environment of pulumi up; the stack sets DATABASE_URL`,
  ];
}

/** Returns the settings of the migrations, or undefined if no Alembic project is configured. Pure. */
export function migrationsOf(
  values: MigrationsValues & { handoverFolder: string; handoverFile: string },
  pythonImage: string,
): MigrationsSettings | undefined {
  if (values.alembic === "") return undefined;
  return Object.freeze({
    folder: values.alembic,
    image: values.alembicImage,
    application: values.handoverFolder || undefined,
    envFile: values.handoverFile,
    service: values.alembicService === "auto" ? undefined : values.alembicService,
    environment: Object.freeze([...values.alembicEnvironment]),
    arguments: Object.freeze([...values.alembicArguments]),
    revision: values.alembicRevision,
    allowDowngrade: values.alembicDowngrade,
    pythonImage,
  });
}
