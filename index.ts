/** The stack, in the order in which it comes to be. */
import * as pulumi from "@pulumi/pulumi";
import { NeonImport } from "./components/import/neon-import.ts";
import { Privileges } from "./components/privileges/privileges.ts";
import { ROLE_NAMES } from "./components/roles/names.ts";
import { Roles } from "./components/roles/roles.ts";
import { DatabaseServer } from "./components/server/database-server.ts";
import { readSettings } from "./components/settings.ts";

const settings = readSettings();
const { stack, bootstrap, database, passwordVersion, readonlyDenyList: denyList } = settings;

const server = new DatabaseServer("database", { ...settings, keepData: settings.keepDataOnDestroy });
const { host, port, superuser, superuserPassword, volume } = server;
const access = { host, port, superuser, superuserPassword, passwordVersion, volume };

const roles = new Roles("roles", { ...access, ready: server.ready });

const data = new NeonImport("import", {
  ...access,
  stack,
  database,
  denyList,
  bootstrap,
  bootstrapChosen: settings.bootstrapChosen,
  owner: ROLE_NAMES.owner,
  container: server.containerName,
  network: server.networkName,
  alias: server.alias,
  image: server.imageId,
  newerImage: settings.newerPostgres,
  jobs: settings.importJobs,
  dockerHost: settings.dockerHost,
  safetyCopy: settings.safetyCopy,
  selection: settings.selection,
  after: [roles.ready],
});

new Privileges("privileges", { ...access, database, denyList, after: [data.ready] });

const url = (role: string, password: pulumi.Output<string>) =>
  pulumi.secret(pulumi.interpolate`postgresql://${role}:${password}@${host}:${port}/${database}`);

export const container = server.containerName;
export const postgresVersion = server.version;
export const address = `${host}:${port}/${database}`;
export const imported = data.summary;
export const urls = {
  superuser: url(superuser, superuserPassword),
  ...Object.fromEntries(Object.entries(roles.access).map(([key, role]) => [key, url(role.name, role.password)])),
};
