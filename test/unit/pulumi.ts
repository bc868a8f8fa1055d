import * as pulumi from "@pulumi/pulumi";
import type { ServerAccess } from "../../components/server/server-access.ts";
import type { ServerSettings } from "../../components/server/settings.ts";

/** The settings of a small server with the defaults. */
export const SERVER: ServerSettings = {
  baseImage: "postgres:15-alpine",
  port: 15500,
  memoryMiB: 512,
  cpus: 2,
  maxConnections: 100,
  passwordVersion: 1,
  keepDataOnDestroy: false,
  protectData: false,
  logsForProduction: false,
  listen: "127.0.0.1",
  tls: undefined,
  dockerHost: undefined,
  dockerHostIsSet: false,
};

/** A server as other components see it, with another value for some of it. */
export const serverWith = (more: Partial<ServerAccess> = {}): ServerAccess => ({
  stack: "test",
  database: "game",
  host: "127.0.0.1",
  port: 15500,
  superuser: "postgres",
  superuserPassword: pulumi.secret("superuser's"),
  passwordVersion: 1,
  volume: new pulumi.ComponentResource("test:Volume", "volume"),
  containerName: "some-container",
  networkName: "some-network",
  alias: "database",
  imageId: "sha256:1234",
  imageName: "some-image",
  maxConnections: 100,
  dockerHost: undefined,
  dockerHostIsSet: false,
  ...more,
});

type Properties = Record<string, unknown>;

/** A resource that a program registers, as the engine would receive it. */
export interface Asked {
  type: string;
  name: string;
  /** Inputs as they would be sent; secrets are wrapped, as the engine gets them. */
  inputs: Properties;
  /** Inputs and options as the program wrote them. */
  written: Properties;
  options: pulumi.CustomResourceOptions;
}

/** The mark that Pulumi sends along with a secret. */
const SECRET = { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270" };

/** A value as the engine gets it when it is secret. */
export const secretly = (value: unknown): Properties => ({ ...SECRET, value });

/** An output's value; unlike `apply`, it fails when the output does. */
export const awaited = <T>(output: pulumi.Output<T>): Promise<T> =>
  (output as unknown as { promise(): Promise<T> }).promise();

/** Names of the resources that an option names: one, several or none. */
export const namesIn = (option: unknown): string[] =>
  [option]
    .flat()
    .filter((resource) => resource !== undefined)
    .map((resource) => (resource as { __name: string }).__name);

/** Call it after setMocks. Pulumi's mock of the engine claims to support resource hooks, but cannot register one. */
export function takeHooks(): void {
  const monitor = pulumi.runtime.getMonitor() as unknown as {
    registerResourceHook: (request: unknown, done: (error: null, answer: unknown) => void) => void;
  };
  monitor.registerResourceHook = (_request, done) => done(null, {});
}

/** The providers' answers by the resource's type. Passwords contain the name of their resource, so tests can search for them. */
function stateOf(type: string, name: string, inputs: Properties): Properties {
  switch (type) {
    case "random:index/randomPassword:RandomPassword":
      return { ...inputs, result: pulumi.secret(`value-of-${name}`) };
    case "random:index/randomId:RandomId":
      return { ...inputs, hex: "0123456789abcdef" };
    case "docker:index/remoteImage:RemoteImage":
      return { ...inputs, imageId: "sha256:1234" };
    case "pulumi-nodejs:dynamic/server:HostCheck":
      return { ...inputs, knowsStartInterval: true };
    case "pulumi-nodejs:dynamic/server:ServerReady":
      return { ...inputs, version: "15.14" };
    case "pulumi-nodejs:dynamic/backups:BackupKey":
      return { ...inputs, key: pulumi.secret("value-of-key") };
    case "pulumi-nodejs:dynamic/import:ImportOnce":
      return { ...inputs, summary: { tables: 3 } };
    default:
      return inputs;
  }
}

/**
 * Runs a part of a program without an engine. Returns a function that finds a registered resource by its name.
 * @param answers outputs that differ from the defaults, by a resource's name.
 */
export async function record(
  program: (opts: pulumi.ComponentResourceOptions) => Promise<pulumi.Output<unknown>[]>,
  answers: Record<string, Properties> = {},
): Promise<(name: string) => Asked> {
  const asked = new Map<string, Asked>();
  const get = (name: string): Asked => {
    const found = asked.get(name);
    if (found === undefined) throw new Error(`no resource ${name}; there are ${[...asked.keys()].join(", ")}`);
    return found;
  };
  await pulumi.runtime.setMocks(
    {
      newResource: ({ type, name, inputs }) => {
        // Resources that the test itself creates do not belong to the component.
        const mine = asked.get(name);
        if (mine !== undefined) mine.inputs = inputs;
        return { id: `id-of-${name}`, state: { ...stateOf(type, name, inputs), ...answers[name] } };
      },
      call: ({ inputs }) => inputs,
    },
    "sectorwars-database",
    "test",
  );
  takeHooks();
  const note: pulumi.ResourceTransformation = ({ type, name, props, opts }) => {
    asked.set(name, { type, name, inputs: {}, written: props, options: opts });
    return undefined;
  };
  try {
    const outputs = await program({ transformations: [note] });
    await Promise.all(outputs.map(awaited));
  } finally {
    // Components register their outputs last. The mocks of the next test would not know these components.
    await pulumi.runtime.disconnect();
  }
  return get;
}
