/** Dynamic resources whose code stays on disk: what Pulumi serialises into the state is only this shell. */
import { createHash } from "node:crypto";
import { flushCompileCache } from "node:module";
import * as pulumi from "@pulumi/pulumi";
import { shellFor } from "./dynamic-shell.ts";

// The process that runs the providers is ended by a signal, at which Node keeps nothing of what it has compiled.
setTimeout(flushCompileCache, 500).unref();

/** A dynamic resource whose provider is a module on disk: {@link shellFor}. */
export abstract class ResourceOnDisk extends pulumi.CustomResource {
  /**
   * @param type the resource's kind, for instance `import:ImportOnce`; Pulumi shows it.
   * @param module path of the provider's module from the project's folder.
   * @param outputs names of the properties that the provider adds to the inputs.
   */
  protected constructor(
    type: `${string}:${string}`,
    module: string,
    name: string,
    inputs: pulumi.Inputs,
    outputs: readonly string[],
    opts: pulumi.CustomResourceOptions,
  ) {
    // A property that Pulumi is to fill in must be named, without a value.
    const unfilled = Object.fromEntries(outputs.map((output) => [output, undefined]));
    super(`pulumi-nodejs:dynamic/${type}`, name, { ...inputs, ...unfilled, __provider: shellFor(module) }, opts);
  }
}

/** Inputs that are about how to reach a server, not about what is wanted of it. */
const NOT_COMPARED = new Set(["password", "__provider", "fingerprint"]);

/**
 * One value for all that a resource wants. Passwords stay out of it: their version numbers are what counts, and the
 * fingerprint is kept in clear.
 */
export function inputsFingerprint(inputs: Record<string, unknown>): string {
  const wanted = Object.entries(inputs)
    .filter(([key, value]) => value !== undefined && !NOT_COMPARED.has(key))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(wanted)).digest("hex").slice(0, 16);
}

/** The diff of a resource that is brought up to date in place whenever its inputs' fingerprint changes. */
export async function diffByFingerprint(
  _id: string,
  olds: { fingerprint?: string },
  news: Record<string, unknown>,
): Promise<pulumi.dynamic.DiffResult> {
  return { changes: olds.fingerprint !== inputsFingerprint(news), replaces: [], deleteBeforeReplace: false };
}
