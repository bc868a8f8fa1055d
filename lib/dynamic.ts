/** Dynamic resources whose code stays on disk: what Pulumi serialises into the state is only this shell. */
import { createHash } from "node:crypto";
import { flushCompileCache } from "node:module";
import * as pulumi from "@pulumi/pulumi";

type Provider = pulumi.dynamic.ResourceProvider;

/**
 * A provider that forwards to the `provider` that a module exports, and ends what that does when Pulumi is stopped. The module
 * is loaded when it is needed, so the serialised shell, and with it the resource, stays the same when the module is edited.
 * @param module path from the project's folder, for instance `components/import/import-provider.ts`.
 */
export function providerOnDisk(module: string): Provider {
  // Nothing of this file is there where this runs: it may use what it is given, and what it imports.
  const ask = async <T>(work: (provider: Provider) => Promise<T>): Promise<T> => {
    const { pathToFileURL } = await import("node:url");
    const load = (path: string) => import(pathToFileURL(`${process.cwd()}/${path}`).href);
    const { untilCancelled } = await load("lib/cancellation.ts");
    const { provider } = await load(module);
    return untilCancelled(() => work(provider));
  };
  return {
    check: (olds, news) => ask(async (provider) => provider.check?.(olds, news) ?? { inputs: news }),
    diff: (id, olds, news) => ask(async (provider) => provider.diff?.(id, olds, news) ?? { changes: false }),
    create: (inputs) => ask((provider) => provider.create(inputs)),
    read: (id, props) => ask(async (provider) => provider.read?.(id, props) ?? { id, props }),
    update: (id, olds, news) => ask(async (provider) => provider.update?.(id, olds, news) ?? { outs: olds }),
    delete: (id, props) => ask(async (provider) => provider.delete?.(id, props)),
  };
}

/**
 * The shell as code, as Pulumi's dynamic provider runs it. Pulumi's own serialiser would find out by itself what a function
 * needs; to do so it parses functions with the TypeScript compiler, at every update.
 */
export const shellFor = (module: string): string =>
  `exports.handler = () => (${providerOnDisk.toString()})(${JSON.stringify(module)});`;

// The process that runs providers is ended by a signal, at which Node keeps nothing of what it has compiled, and it loads
// them one after the other: so what is new is kept every second.
setInterval(flushCompileCache, 1000).unref();

/** A dynamic resource by {@link providerOnDisk}. */
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
