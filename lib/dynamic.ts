/** Dynamic resources whose code stays on disk: Pulumi serialises only a small wrapper into the state. */
import { createHash } from "node:crypto";
import { flushCompileCache } from "node:module";
import * as pulumi from "@pulumi/pulumi";

type Provider = pulumi.dynamic.ResourceProvider;

/**
 * Returns a provider that forwards to the `provider` that a module exports, and cancels its work when Pulumi is stopped. The module is
 * loaded on demand, so the serialised wrapper, and with it the resource, does not change when the module is edited.
 *
 * Pulumi runs this function from its source text, outside this module. It may use only its parameters and what it imports itself. States
 * contain the text, comments included, so any change to it shows as a change of every dynamic resource.
 * @param module path relative to the project's folder, for example `components/import/import-provider.ts`.
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
 * Returns the wrapper as code for Pulumi's dynamic provider. Pulumi's own serialiser would parse the functions with the TypeScript
 * compiler in every update, to find the variables that they capture.
 */
export const wrapperCode = (module: string): string =>
  `exports.handler = () => (${providerOnDisk.toString()})(${JSON.stringify(module)});`;

// A signal ends the process that runs providers, and Node.js does not write its compile cache then. The process loads providers one
// after the other, so the cache is written every second.
setInterval(flushCompileCache, 1000).unref();

/** A dynamic resource that uses {@link providerOnDisk}. */
export abstract class ResourceOnDisk extends pulumi.CustomResource {
  /**
   * @param type the resource's type, for example `import:ImportOnce`; Pulumi shows it.
   * @param module path of the provider's module, relative to the project's folder.
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
    // Pulumi sets only properties that exist, so each output is declared without a value.
    const unfilled = Object.fromEntries(outputs.map((output) => [output, undefined]));
    super(`pulumi-nodejs:dynamic/${type}`, name, { ...inputs, ...unfilled, __provider: wrapperCode(module) }, opts);
  }
}

/** Inputs that do not describe the desired state. */
const NOT_COMPARED = new Set(["password", "__provider", "fingerprint"]);

/**
 * Returns a digest of a resource's inputs, to detect changes. Passwords are excluded, because the state stores the fingerprint in clear text;
 * the version numbers of the passwords are included.
 */
export function inputsFingerprint(inputs: Record<string, unknown>): string {
  const wanted = Object.entries(inputs)
    .filter(([key, value]) => value !== undefined && !NOT_COMPARED.has(key))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(wanted)).digest("hex").slice(0, 16);
}

/** The diff of a resource that is updated in place when its inputs' fingerprint changes. */
export async function diffByFingerprint(
  _id: string,
  olds: { fingerprint?: string },
  news: Record<string, unknown>,
): Promise<pulumi.dynamic.DiffResult> {
  return { changes: olds.fingerprint !== inputsFingerprint(news), replaces: [], deleteBeforeReplace: false };
}
