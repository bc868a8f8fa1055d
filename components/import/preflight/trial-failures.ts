/** Groups the objects that could not be created by the object whose failure caused theirs. Pure. */
import { describeEntry, type Entry } from "../schema/dump-entries.ts";
import { remedyFor } from "../schema/remedies.ts";
import { type Finding, finding } from "./findings.ts";

const CHANGE_IT = "Change or drop it on the source";

type Named = Pick<Entry, "type" | "schema" | "name">;

/** SQLSTATEs for something missing: table, object, function, schema, parameter value. */
const MISSING = new Set(["42P01", "42704", "42883", "3F000", "22023"]);

interface Failure {
  entry: Named;
  message: string;
  /** Objects that failed because this one had. */
  dependents: string[];
}

const withoutArguments = (name: string) => name.replace(/\(.*/s, "");

/** Returns whether a message mentions an object, by schema and name or in quotes. */
function mentions(message: string, { schema, name }: Named): boolean {
  const plain = message.replaceAll('"', "");
  const bare = withoutArguments(name);
  return schema === "-" ? message.includes(`"${bare}"`) : plain.includes(`${schema}.${bare.replaceAll('"', "")}`);
}

/** Converts pg_dump's words for a cast or a transform, which have no names, to those of the catalog's checks. */
const unnamed = (name: string): string =>
  name
    .replace(/^CAST \((.+) AS (.+)\)$/, "cast from $1 to $2")
    .replace(/^TRANSFORM FOR (.+) LANGUAGE (.+)$/, "transform for $1 language $2");

/** Collects failures in the order in which objects are created. */
export class Failures {
  private readonly failed = new Map<string, Failure>();
  private readonly causes = new Map<string, Failure>();

  /** Adds the server's error about an object, if there is one. */
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

  /** Returns one finding for each object that failed by itself. It lists the objects that failed because of it. */
  findings(): Finding[] {
    return [...this.causes].map(([subject, { message, dependents }]) => {
      const needed =
        dependents.length === 0 ? "" : `; these depend on it and cannot be created: ${dependents.join(", ")}`;
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

/** Returns the findings of a trial about objects that the catalog's checks have not reported yet. */
export function notYetReported(trial: readonly Finding[], told: readonly Finding[]): Finding[] {
  const known = told.filter(({ code }) => code === "superuser-needed").map(({ subject }) => plainWords(subject));
  return trial.filter(
    ({ code, subject }) => code !== "object-not-made" || !known.some((object) => object.endsWith(objectOf(subject))),
  );

  function plainWords(subject: string): string {
    return withoutArguments(subject.replaceAll('"', "")).trim();
  }
  /** Removes the type from a subject, because pg_dump's words for types may differ from the catalog's. */
  function objectOf(subject: string): string {
    const [, name = subject] = /^[a-z ]+ (\S.*)$/s.exec(subject.replace(/^(cast|transform) /, "$1 ")) ?? [];
    if (/^(cast|transform) /.test(subject)) return plainWords(unnamed(subject.replace(/^\w+ /, "")));
    return ` ${plainWords(name)}`;
  }
}
