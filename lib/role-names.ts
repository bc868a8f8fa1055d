/** The roles of every stack. The application's migrations and files know these names. */
export const ROLE_NAMES = {
  /** Owns the database and its schema; runs migrations. */
  owner: "sectorwars_owner",
  /** Reads and writes rows. */
  app: "sectorwars_app",
  /** Reads all tables except those on the deny list. */
  readonly: "sectorwars_readonly",
  /** Reads statistics. */
  monitor: "sectorwars_monitor",
} as const;

/** The role with which replicas connect to the primary. It can do nothing else, and exists only in a stack with replicas. */
export const REPLICATOR = "sectorwars_replicator";
/** The pooler's role, which may only look up the passwords of others (sql/pooler.sql). It exists in stacks with a pooler. */
export const POOLER_ROLE = "sectorwars_pooler";

/** The purpose of a role, from which its name is derived. */
export type RoleKey = keyof typeof ROLE_NAMES;

/** Returns the roles of a further database: its own three, and the stack's monitor. */
export const rolesOf = (database: string): Readonly<Record<RoleKey, string>> => ({
  owner: `${database}_owner`,
  app: `${database}_app`,
  readonly: `${database}_readonly`,
  monitor: ROLE_NAMES.monitor,
});
