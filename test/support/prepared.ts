/** A database on a plain server, prepared like a stack's, to test the privileges of its roles without a stack. */
import type pg from "pg";
import { preparationScript, serverScript } from "../../components/privileges/scripts.ts";
import { docker } from "../../lib/docker.ts";
import { type Address, ident, literal } from "../../lib/postgres.ts";
import { ROLE_NAMES, type RoleKey } from "../../lib/role-names.ts";
import { DENY_LIST, type Server, secret } from "./lab.ts";
import { withConnection } from "./session.ts";

/** The role of a test. */
export type Who = RoleKey | "superuser";

/** The passwords of a server's roles. */
type Passwords = Readonly<Record<RoleKey, string>>;

/** Sets the passwords of a server's roles, and the privileges that a stack sets on PostgreSQL's own databases. */
export async function prepareServer(server: Server): Promise<Passwords> {
  const passwords = { owner: secret(), app: secret(), readonly: secret(), monitor: secret() };
  for (const key of Object.keys(passwords) as RoleKey[]) {
    await server.sql("postgres", `ALTER ROLE ${ident(ROLE_NAMES[key])} PASSWORD ${literal(passwords[key])}`);
  }
  await server.sql("postgres", `GRANT pg_monitor TO ${ident(ROLE_NAMES.monitor)}; ${serverScript()}`);
  return passwords;
}

/** The database and the roles that use it. */
export class PreparedDatabase {
  readonly server: Server;
  readonly name: string;
  private readonly passwords: Passwords;

  private constructor(server: Server, name: string, passwords: Passwords) {
    this.server = server;
    this.name = name;
    this.passwords = passwords;
  }

  /** Creates a database without the stack's privileges. */
  static async createPlain(server: Server, name: string, passwords: Passwords): Promise<PreparedDatabase> {
    await server.sql("postgres", `CREATE DATABASE ${ident(name)} TEMPLATE template0`);
    return new PreparedDatabase(server, name, passwords);
  }

  /** Creates a database with the stack's privileges and the default deny list. */
  static async create(server: Server, name: string, passwords: Passwords): Promise<PreparedDatabase> {
    const database = await PreparedDatabase.createPlain(server, name, passwords);
    await database.prepare();
    return database;
  }

  /** Runs the preparation like `pulumi up`. */
  async prepare(denyList: readonly string[] = DENY_LIST): Promise<void> {
    await this.server.sql(this.name, `BEGIN; ${preparationScript(this.name, denyList)}; COMMIT`);
  }

  address(who: Who, database = this.name): Address {
    const { admin } = this.server;
    if (who === "superuser") return { ...admin, database };
    return { ...admin, database, user: ROLE_NAMES[who], password: this.passwords[who] };
  }

  /** Runs statements in one session of a role. Returns the rows of the last one. */
  async as<Row extends pg.QueryResultRow = Record<string, unknown>>(who: Who, ...statements: string[]): Promise<Row[]> {
    return withConnection(this.address(who), async (client) => {
      let rows: Row[] = [];
      for (const statement of statements) {
        const result = await client.query<Row>(statement);
        rows = [result].flat().at(-1)?.rows ?? [];
      }
      return rows;
    });
  }

  /** Runs a script in psql on the server's machine, over TCP. Continues after errors. Returns psql's output. */
  async psql(who: RoleKey, script: string): Promise<string> {
    const line = `read -r PGPASSWORD; export PGPASSWORD; exec psql -X -h 127.0.0.1 -U ${ROLE_NAMES[who]} -d ${this.name} 2>&1`;
    return docker(["exec", "-i", "-u", "postgres", this.server.container, "sh", "-c", line], {
      input: `${this.passwords[who]}\n${script}`,
    });
  }
}
