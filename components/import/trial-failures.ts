/** Which objects of a schema could not be made, each failure told of the object that it comes from. Pure. */
import { describeEntry, type Entry } from "./dump-entries.ts";
import { type Finding, finding } from "./preflight/findings.ts";
import { remedyFor } from "./remedies.ts";

const CHANGE_IT = "Change it on the source, or drop it there";

type Named = Pick<Entry, "type" | "schema" | "name">;

/** SQLSTATEs of something that is not there: table, object, function, schema, parameter's value. */
const MISSING = new Set(["42P01", "42704", "42883", "3F000", "22023"]);

interface Failure {
  entry: Named;
  message: string;
  /** Objects that failed because this one had. */
  dependents: string[];
}

const withoutArguments = (name: string) => name.replace(/\(.*/s, "");

/** Whether a message speaks of an object: by schema and name, or in quotes. */
function mentions(message: string, { schema, name }: Named): boolean {
  const plain = message.replaceAll('"', "");
  const bare = withoutArguments(name);
  return schema === "-" ? message.includes(`"${bare}"`) : plain.includes(`${schema}.${bare.replaceAll('"', "")}`);
}

/** The words by which the catalog's checks call a cast or a transform, which have no names of their own. */
const unnamed = (name: string): string =>
  name
    .replace(/^CAST \((.+) AS (.+)\)$/, "cast from $1 to $2")
    .replace(/^TRANSFORM FOR (.+) LANGUAGE (.+)$/, "transform for $1 language $2");

/** Gathers failures in the order in which objects are made. */
export class Failures {
  private readonly failed = new Map<string, Failure>();
  private readonly causes = new Map<string, Failure>();

  /** Takes what the server said against an object, if it did. */
  note(entry: Named, refusal: { message: string; code: string | undefined } | undefined): void {
    if (refusal === undefined) return;
    const { message, code } = refusal;
    const subject = describeEntry(entry as Entry);
    const cause = MISSING.has(code ?? "")
      ? [...this.failed.values()].find((one) => mentions(message, one.entry))
      : undefined;
    const failure = { entry, message, dependents: [] };
    this.failed.set(subject, failure);
    if (cause === undefined) this.causes.set(subject, failure);
    else this.rootOf(cause).dependents.push(subject);
  }

  has(entry: Named): boolean {
    return this.failed.has(describeEntry(entry as Entry));
  }

  /** One finding for each object that failed by itself; those that failed with it are named there. */
  findings(): Finding[] {
    return [...this.causes].map(([subject, { message, dependents }]) => {
      const needed = dependents.length === 0 ? "" : `; without it cannot be made: ${dependents.join(", ")}`;
      return finding("object-not-made", subject, `${message}${needed}`, remedyFor(message) ?? CHANGE_IT);
    });
  }

  private rootOf(failure: Failure): Failure {
    const above = [...this.causes.values()].find(
      (root) => root === failure || root.dependents.includes(describeEntry(failure.entry as Entry)),
    );
    return above ?? failure;
  }
}

/** What a trial found that the catalog's checks have not told already of the same object. */
export function notYetTold(trial: readonly Finding[], told: readonly Finding[]): Finding[] {
  const known = told.filter(({ code }) => code === "superuser-needed").map(({ subject }) => plainWords(subject));
  return trial.filter(
    ({ code, subject }) => code !== "object-not-made" || !known.some((object) => object.endsWith(objectOf(subject))),
  );

  function plainWords(subject: string): string {
    return withoutArguments(subject.replaceAll('"', "")).trim();
  }
  /** A subject without the type before it: pg_dump's words for types are not always the catalog's. */
  function objectOf(subject: string): string {
    const [, name = subject] = /^[a-z ]+ (\S.*)$/s.exec(subject.replace(/^(cast|transform) /, "$1 ")) ?? [];
    if (/^(cast|transform) /.test(subject)) return plainWords(unnamed(subject.replace(/^\w+ /, "")));
    return ` ${plainWords(name)}`;
  }
}
