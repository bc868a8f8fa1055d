/** The code that Pulumi keeps in its state for a dynamic resource: a shell, whose work is done by a module on disk. */

/** One function of the shell, as Pulumi's serialiser writes it: what it captures stands in a `with`. */
const written = (name: string, slots: string, captured: string, body: string) => `
function ${name}(${slots}) {
  return (function() {
    with({ ${captured}, this: undefined, arguments: undefined }) {

return ${body};

    }
  }).apply(undefined, undefined).apply(this, arguments);
}
`;

// The gap is where a type was blanked when this was a function.
const LOAD = `async ()                    => {
    const { pathToFileURL } = await import("node:url");
    return (await import(pathToFileURL(\`\${process.cwd()}/\${module}\`).href)).provider;
  }`;

/**
 * A provider that forwards to the `provider` that a module exports; where that has no such function, nothing changes. The
 * module is loaded when it is needed, so the shell, and with it the resource, stays the same when the module is edited.
 *
 * The text is the one that Pulumi's serialiser makes of such an object, to the letter: any other is another provider to
 * Pulumi, which then replaces the resource, and to replace the import's is to import again. Kept as a text it depends on
 * neither the serialiser nor the formatting of a function; nor does every update start the TypeScript compiler for it.
 * @param module path from the project's folder, for instance `components/import/import-provider.ts`.
 */
export function shellFor(module: string): string {
  const forward = (name: string, slots: string, body: string) => written(name, slots, "load: __f2", body);
  return [
    "exports.handler = __f0;\n\n",
    "var __provider = {check: __f1, diff: __f3, create: __f4, read: __f5, update: __f6, delete: __f7};\n",
    written("__f2", "", `module: ${JSON.stringify(module)}`, LOAD),
    forward("__f1", "__0, __1", "async (olds, news) => (await load()).check?.(olds, news) ?? { inputs: news }"),
    forward(
      "__f3",
      "__0, __1, __2",
      "async (id, olds, news) => (await load()).diff?.(id, olds, news) ?? { changes: false }",
    ),
    forward("__f4", "__0", "async (inputs) => (await load()).create(inputs)"),
    forward("__f5", "__0, __1", "async (id, props) => (await load()).read?.(id, props) ?? { id, props }"),
    forward(
      "__f6",
      "__0, __1, __2",
      "async (id, olds, news) => (await load()).update?.(id, olds, news) ?? { outs: olds }",
    ),
    forward("__f7", "__0, __1", "async (id, props) => (await load()).delete?.(id, props)"),
    written("__f0", "", "provider: __provider", "() => provider"),
  ].join("");
}
