import { expect, test } from "vitest";
import { recordedServer, stateResources } from "../../lib/stack-state.ts";

const urn = (type: string, name: string) => `urn:pulumi:dev::sectorwars-database::${type}::${name}`;
/** A secret as `pulumi stack export --show-secrets` writes it. */
const secret = (value: string) => ({
  "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
  plaintext: JSON.stringify(value),
});
const password = (key: string, component = key === "superuser" ? "server:DatabaseServer" : "roles:Roles") => ({
  urn: urn(`sectorwars:${component}$random:index/randomPassword:RandomPassword`, `${prefix(component)}${key}-password`),
  type: "random:index/randomPassword:RandomPassword",
  outputs: { result: secret(`Secret0f${key}`) },
});
const prefix = (component: string) => (component === "server:DatabaseServer" ? "database-" : "roles-");
const role = (key: string) => ({
  urn: urn("sectorwars:roles:Roles$postgresql:index/role:Role", `roles-${key}`),
  type: "postgresql:index/role:Role",
  outputs: { name: `sectorwars_${key}` },
});
const server = {
  urn: urn("sectorwars:server:DatabaseServer", "database"),
  type: "sectorwars:server:DatabaseServer",
  outputs: { host: "127.0.0.1", port: 5433, containerName: "sectorwars-database", version: "15.20" },
};
/** The resources of a state as `pulumi stack export --show-secrets` prints it. */
const exported = (resources: readonly unknown[]) =>
  stateResources(JSON.stringify({ version: 3, deployment: { resources } }));
const KEYS = ["owner", "app", "readonly", "monitor"];
const whole = [server, password("superuser"), ...KEYS.map((key) => password(key)), ...KEYS.map(role)];

/** As earlier versions named the resources. */
const earlier = whole.map((resource) => ({ ...resource, urn: resource.urn.replace(/::(database|roles)-/, "::") }));
/** Of a further database. */
const further = { ...password("app", "databases:Databases"), outputs: { result: secret("another") } };

test.each([
  ["", whole],
  [" of an earlier version", earlier],
])("recordedServer reads a server and its roles from a state%s without outputs", (_, resources) => {
  expect(
    recordedServer(
      exported([{ ...password("app"), outputs: { result: secret("former") }, delete: true }, further, ...resources]),
      "game",
    ),
  ).toEqual({
    container: "sectorwars-database",
    postgresVersion: "15.20",
    address: "127.0.0.1:5433/game",
    urls: {
      superuser: "postgresql://postgres:Secret0fsuperuser@127.0.0.1:5433/game",
      owner: "postgresql://sectorwars_owner:Secret0fowner@127.0.0.1:5433/game",
      app: "postgresql://sectorwars_app:Secret0fapp@127.0.0.1:5433/game",
      readonly: "postgresql://sectorwars_readonly:Secret0freadonly@127.0.0.1:5433/game",
      monitor: "postgresql://sectorwars_monitor:Secret0fmonitor@127.0.0.1:5433/game",
    },
  });
});

test.each([
  ["no resources", []],
  ["a server that has not answered", [{ ...server, outputs: {} }, ...whole.slice(1)]],
  ["no role yet", [server, ...KEYS.map((key) => password(key))]],
  ["not all roles yet", whole.slice(0, -1)],
])("recordedServer returns nothing for a state with %s", (_what, resources) => {
  expect(recordedServer(exported(resources), "game")).toBeUndefined();
});
