/** Dynamic resources whose code stays on disk: what Pulumi serialises into the state is only this shell. */
import { createHash } from "node:crypto";
import * as pulumi from "@pulumi/pulumi";

type Provider = pulumi.dynamic.ResourceProvider;

/**
 * A provider that forwards to the `provider` that a module exports. The module is loaded when it is needed, so the
 * serialised shell, and with it the resource, stays the same when the module is edited.
 * @param module path from the project's folder, for instance `components/import/import-provider.ts`.
 */
export function providerOnDisk(module: string): Provider {
  // An object literal that captures one string: nothing else survives serialisation for certain.
  const load = async (): Promise<Provider> => {
    const { pathToFileURL } = await import("node:url");
    return (await import(pathToFileURL(`${process.cwd()}/${module}`).href)).provider;
  };
  return {
    check: async (olds, news) => (await load()).check?.(olds, news) ?? { inputs: news },
    diff: async (id, olds, news) => (await load()).diff?.(id, olds, news) ?? { changes: false },
    create: async (inputs) => (await load()).create(inputs),
    read: async (id, props) => (await load()).read?.(id, props) ?? { id, props },
    update: async (id, olds, news) => (await load()).update?.(id, olds, news) ?? { outs: olds },
    delete: async (id, props) => (await load()).delete?.(id, props),
  };
}

/** A dynamic resource by {@link providerOnDisk}. */
export abstract class ResourceOnDisk extends pulumi.dynamic.Resource {
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
    const [group, kind] = type.split(":");
    super(providerOnDisk(module), name, { ...inputs, ...unfilled }, opts, group, kind);
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
