/** Settings of the Alembic migrations. */
import { flag, list, matches, secretList, text, type ValuesOf } from "../../lib/setting.ts";

/** How the application's schema is kept at a revision. */
export interface MigrationsSettings {
  /** Folder of the Alembic project. */
  readonly folder: string;
  /** Image to run in: its name, `generic` for this project's own, or `auto` for the Compose service's, else the generic one. */
  readonly image: string;
  /** The application's folder; undefined for the nearest one above `folder` with a Compose file. */
  readonly application: string | undefined;
  /** The file of variables in it that the hand-over writes. */
  readonly envFile: string;
  /** The Compose service whose environment and image the migrations have; undefined for the one that builds `folder`. */
  readonly service: string | undefined;
  /** Further variables for the migrations: NAME=VALUE, or NAME for the value in the environment. */
  readonly environment: readonly string[];
  readonly arguments: readonly string[];
  /** The wanted revision, or `head`. */
  readonly revision: string;
  readonly allowDowngrade: boolean;
  /** Python image that the project's own migrations image is built on. */
  readonly pythonImage: string;
}

export const MIGRATIONS_SETTINGS = {
  alembic: text(),
  alembicImage: text(),
  alembicService: text(matches(/^[a-zA-Z0-9._-]+$/, "give a service's name as the Compose file has it, or auto")),
  alembicEnvironment: secretList(),
  alembicArguments: list(),
  alembicRevision: text(matches(/^[\w.@+-]+$/, "give a revision's id, head or base")),
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
    `alembicEnvironment[${wrong}]: give NAME=VALUE, or NAME for the value in the environment of pulumi up; DATABASE_URL is the stack's own`,
  ];
}

/** Returns how migrations run; undefined where no Alembic project is named. Pure. */
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
