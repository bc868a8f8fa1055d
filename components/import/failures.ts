/** What went wrong with objects: every one of them, with all that PostgreSQL says and what to do about it. */
import type pg from "pg";
import { isPassing } from "../../lib/postgres.ts";
import { describeEntry, type Entry } from "./dump-entries.ts";
import { remedyFor } from "./remedies.ts";
import { isAboutNames, pathFor, pathSql, pinFunction, withPath } from "./search-path.ts";

/** An object that could not be made, filled or computed. */
export interface Failure {
  /** For instance `index public.players_name`. */
  object: string;
  /** In PostgreSQL's words. */
  message: string;
  /** What to do. */
  remedy: string;
}

/** What the server says about an error. */
type ServerError = Pick<pg.DatabaseError, "message" | "detail" | "hint" | "where" | "code">;

const oneLine = (text: string) => text.trim().replaceAll(/\s*\n\s*/g, "; ");
/** A sentence without its full stop. */
const open = (text: string) => text.trim().replace(/\.$/, "");

/** A server's error with its DETAIL, HINT and CONTEXT. */
export function wordsOf(error: unknown): string {
  const { message, detail, hint, where } = error as ServerError;
  const more = [
    detail && `DETAIL: ${open(detail)}`,
    hint && `HINT: ${open(hint)}`,
    where && `CONTEXT: ${open(where)}`,
  ].filter((text) => !!text);
  return oneLine(more.length === 0 ? message : `${message} (${more.join("; ")})`);
}

/**
 * Whether an error is about the object that was worked on (SQLSTATE's classes of data, constraints, names, limits and raised
 * exceptions), and not about the connection, the disk or the server: others can be tried after it.
 */
export function isOfObject(error: unknown): boolean {
  const { code } = error as ServerError;
  return typeof code === "string" && code.length === 5 && /^(0A|2[0-4679BDF]|3[89BDF]|42|44|54|55000|P0|HV)/.test(code);
}

/** What helps, by SQLSTATE; the first that fits. */
const REMEDIES: [code: RegExp, remedy: string][] = [
  [
    /^23503/,
    "Rows refer to rows that are not there, on the source too. Delete them there, or add the missing ones; or make the foreign key NOT VALID there",
  ],
  [
    /^23514/,
    "The row breaks the condition on the source too: the condition held only when the row was written. Change the row there, or the condition (ALTER TABLE ... DROP CONSTRAINT)",
  ],
  [/^23505/, "Two rows have the same key by this server's collation or version. Change one of them on the source"],
  [/^42501/, "It takes rights that a database's owner does not have. Drop it on the source, or change it there"],
];

/** What helps against an error about an object. */
export function adviseOn(error: unknown, path: readonly string[] = []): string {
  const { message, where, code = "" } = error as ServerError;
  const known = remedyFor(message) ?? REMEDIES.find(([pattern]) => pattern.test(code))?.[1];
  if (known !== undefined) return known;
  if (isAboutNames(error) && where !== undefined) {
    return `A function finds names by the search path. On the source: ${pinFunction(where, path.length > 0 ? path : ["public"])}`;
  }
  if (/^42703/.test(code)) {
    return "If the column belongs to an extension, its version here is another one: on the source ALTER EXTENSION ... UPDATE, then change the object there";
  }
  return "Change it on the source, or drop it there";
}

/** A failure in a line. */
const lineOf = ({ object, message, remedy }: Failure): string => `  - ${object}: ${message}. ${remedy}.`;

/**
 * One error for all failures of a phase.
 * @param what the beginning of the message, which the list follows.
 */
export const failuresError = (what: string, failures: readonly Failure[], cause?: unknown): Error =>
  new Error(`${what}:\n${failures.map(lineOf).join("\n")}`, { cause });

/** Gathers the failures of a phase, and the remarks about objects that were made in another way than the first. */
export class Attempts {
  readonly failures: Failure[] = [];
  readonly remarks: string[] = [];
  private cause: unknown;
  /** Schemas of the source's search path. */
  readonly searchPath: readonly string[];

  constructor(searchPath: readonly string[]) {
    this.searchPath = searchPath;
  }

  /** Notes a failure. @throws the error, where it is not about the object; with the object's name, where the server said it. */
  note(object: string, schema: string, error: unknown): void {
    if (!isOfObject(error)) {
      const isServers = (error as ServerError).code?.length === 5 && !isPassing(error);
      throw isServers ? new Error(`${object}: ${wordsOf(error)}`, { cause: error }) : error;
    }
    this.cause ??= error;
    this.failures.push({ object, message: wordsOf(error), remedy: adviseOn(error, pathFor(this.searchPath, schema)) });
  }

  /** Takes back what was noted of objects that are tried once more. */
  forget(objects: ReadonlySet<string>): void {
    const left = this.failures.filter(({ object }) => !objects.has(object));
    this.failures.splice(0, this.failures.length, ...left);
  }

  /** @throws {Error} that lists all failures, if there are any. */
  check(what: string): void {
    if (this.failures.length > 0) throw failuresError(what, this.failures, this.cause);
  }

  /** Says that something needed the source's search path. */
  notePath(object: string, schema: string, first: unknown): void {
    const path = pathFor(this.searchPath, schema);
    this.remarks.push(
      `${object} needs the search path (${wordsOf(first)}), so it was done with search_path = ${pathSql(path)}, by the owner; ` +
        `better: ${pinFunction((first as ServerError).where, path)}`,
    );
  }

  /**
   * Does something that may run functions of the source; once more with the source's search path, should a name not be found.
   * @param recover makes the session take statements again after the work has failed.
   */
  async withPath<T>(
    client: pg.Client,
    { object, schema }: { object: string; schema: string },
    work: () => Promise<T>,
    recover: () => Promise<void> = async () => {},
  ): Promise<T> {
    const recovered = () =>
      work().catch(async (error) => {
        if (isOfObject(error)) await recover();
        throw error;
      });
    try {
      return await recovered();
    } catch (first) {
      if (!isAboutNames(first)) throw first;
      const done = await withPath(client, pathFor(this.searchPath, schema), recovered).catch((second) => {
        // What the first try says is about the object as it is; another failure than of names, about what is in it.
        throw isAboutNames(second) ? first : second;
      });
      this.notePath(object, schema, first);
      return done;
    }
  }

  /**
   * Makes an object outside of a transaction.
   * @returns whether it was made.
   */
  async makeAlone(client: pg.Client, entry: Entry): Promise<boolean> {
    const object = describeEntry(entry);
    try {
      await this.withPath(client, { object, schema: entry.schema }, async () => void (await client.query(entry.sql)));
      return true;
    } catch (error) {
      this.note(object, entry.schema, error);
      return false;
    }
  }

  /**
   * Makes an object within a transaction, which goes on whatever comes of it.
   * @returns whether it was made.
   */
  async makeWithin(client: pg.Client, entry: Entry): Promise<boolean> {
    const object = describeEntry(entry);
    const make = (sql: string) =>
      this.withPath(
        client,
        { object, schema: entry.schema },
        async () => void (await client.query(`SAVEPOINT one; ${sql}\n; RELEASE SAVEPOINT one`)),
        () => this.rollBack(client),
      );
    try {
      if (entry.made !== undefined && (await this.tries(object, () => make(entry.made ?? "")))) return true;
      await make(entry.sql);
      return true;
    } catch (error) {
      this.note(object, entry.schema, error);
      return false;
    }
  }

  /** Tries what need not succeed. */
  private async tries(object: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!isOfObject(error)) throw error;
      this.remarks.push(`${object} was made as pg_dump writes it, with its columns in that order: ${wordsOf(error)}`);
      return false;
    }
  }

  private async rollBack(client: pg.Client): Promise<void> {
    await client.query("ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one");
  }
}
