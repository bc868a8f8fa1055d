/** Failures of single objects, each with PostgreSQL's full message and a remedy. */
import type pg from "pg";
import { isPassing } from "../../../lib/postgres.ts";
import { isAboutNames, pathFor, pathSql, pinFunction, withPath } from "../session/search-path.ts";
import { describeEntry, type Entry } from "./dump-entries.ts";
import { remedyFor } from "./remedies.ts";

/** An object that could not be created, filled or computed. */
export interface Failure {
  /** For instance `index public.players_name`. */
  object: string;
  /** PostgreSQL's message. */
  message: string;
  /** An instruction. */
  remedy: string;
}

/** The fields of a server's error. */
type ServerError = Pick<pg.DatabaseError, "message" | "detail" | "hint" | "where" | "code">;

const oneLine = (text: string) => text.trim().replaceAll(/\s*\n\s*/g, "; ");
/** Removes a sentence's full stop. */
const open = (text: string) => text.trim().replace(/\.$/, "");

/** Returns a server's message with its DETAIL, HINT and CONTEXT. */
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
 * Returns whether an error is about the object itself (SQLSTATE classes for data, constraints, names, limits and raised exceptions)
 * and not about the connection, the disk or the server. After such an error the next object can be tried.
 */
export function isOfObject(error: unknown): boolean {
  const { code } = error as ServerError;
  return typeof code === "string" && code.length === 5 && /^(0A|2[0-4679BDF]|3[89BDF]|42|44|54|55000|P0|HV)/.test(code);
}

/** Remedies by SQLSTATE; the first match applies. */
const REMEDIES: [code: RegExp, remedy: string][] = [
  [
    /^23503/,
    "Rows refer to rows that do not exist, on the source too. On the source, delete them, add the missing rows, or make the foreign key NOT VALID",
  ],
  [
    /^23514/,
    "The row violates the constraint on the source too: it held only when the row was written. On the source, change the row or the constraint (ALTER TABLE ... DROP CONSTRAINT)",
  ],
  [/^23505/, "Two rows have the same key under this server's collation or version. Change one of them on the source"],
  [/^42501/, "It needs privileges that a database's owner does not have. Drop or change it on the source"],
];

/** Returns the remedy for an error about an object. */
export function adviseOn(error: unknown, path: readonly string[] = []): string {
  const { message, where, code = "" } = error as ServerError;
  const known = remedyFor(message) ?? REMEDIES.find(([pattern]) => pattern.test(code))?.[1];
  if (known !== undefined) return known;
  if (isAboutNames(error) && where !== undefined) {
    return `A function depends on the search path. On the source, run: ${pinFunction(where, path.length > 0 ? path : ["public"])}`;
  }
  if (/^42703/.test(code)) {
    return "If the column belongs to an extension, its version here differs: on the source, run ALTER EXTENSION ... UPDATE, then change the object";
  }
  return "Change or drop it on the source";
}

/** Returns a failure as one line. */
const lineOf = ({ object, message, remedy }: Failure): string => `  - ${object}: ${message}. ${remedy}.`;

/**
 * Returns one error for all failures of a phase.
 * @param what the beginning of the message, before the list.
 */
export const failuresError = (what: string, failures: readonly Failure[], cause?: unknown): Error =>
  new Error(`${what}:\n${failures.map(lineOf).join("\n")}`, { cause });

/** Collects the failures of a phase, and remarks about objects that were created only at the second attempt. */
export class Attempts {
  readonly failures: Failure[] = [];
  readonly remarks: string[] = [];
  private cause: unknown;
  /** Schemas of the source's search path. */
  readonly searchPath: readonly string[];

  constructor(searchPath: readonly string[]) {
    this.searchPath = searchPath;
  }

  /** Adds a failure. @throws the error, if it is not about the object; with the object's name, if the error is the server's. */
  note(object: string, schema: string, error: unknown): void {
    if (!isOfObject(error)) {
      const isServers = (error as ServerError).code?.length === 5 && !isPassing(error);
      throw isServers ? new Error(`${object}: ${wordsOf(error)}`, { cause: error }) : error;
    }
    this.cause ??= error;
    this.failures.push({ object, message: wordsOf(error), remedy: adviseOn(error, pathFor(this.searchPath, schema)) });
  }

  /** Removes the failures of objects that are tried again. */
  forget(objects: ReadonlySet<string>): void {
    const left = this.failures.filter(({ object }) => !objects.has(object));
    this.failures.splice(0, this.failures.length, ...left);
  }

  /** @throws {Error} that lists all failures, if there are any. */
  check(what: string): void {
    if (this.failures.length > 0) throw failuresError(what, this.failures, this.cause);
  }

  /** Adds the remark that an object needed the source's search path. */
  notePath(object: string, schema: string, first: unknown): void {
    const path = pathFor(this.searchPath, schema);
    this.remarks.push(
      `${object} depends on the search path (${wordsOf(first)}), so the owner created it with search_path = ${pathSql(path)}. ` +
        `To fix it on the source: ${pinFunction((first as ServerError).where, path)}`,
    );
  }

  /**
   * Runs work that may call functions of the source. If a name is not found, runs it again with the source's search path.
   * @param recover makes the session accept statements again after the work has failed.
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
        // If a name is missing both times, the first error describes the object as it is.
        throw isAboutNames(second) ? first : second;
      });
      this.notePath(object, schema, first);
      return done;
    }
  }

  /**
   * Creates an object outside a transaction.
   * @returns whether it was created.
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
   * Creates an object within a transaction, which stays usable if that fails.
   * @returns whether it was created.
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

  /** Tries work whose failure is only a remark. */
  private async tries(object: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!isOfObject(error)) throw error;
      this.remarks.push(`${object} was created as pg_dump writes it, with pg_dump's column order: ${wordsOf(error)}`);
      return false;
    }
  }

  private async rollBack(client: pg.Client): Promise<void> {
    await client.query("ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one");
  }
}
