/** The stack's components, in the order in which they are created. */
import "./lib/disable-source-maps.ts";
import type { Resource } from "@pulumi/pulumi";
import { archivingFor, Backups } from "./components/backups/backups.ts";
import { Databases } from "./components/databases/databases.ts";
import { assertCanHandOver } from "./components/handover/can-hand-over.ts";
import { HandOver } from "./components/handover/handover.ts";
import { NeonImport } from "./components/import/neon-import.ts";
import { Migrations } from "./components/migrations/migrations.ts";
import { keepSecretsPrivate } from "./components/private-places.ts";
import { Privileges } from "./components/privileges/privileges.ts";
import { Roles } from "./components/roles/roles.ts";
import { urlsFor } from "./components/roles/urls.ts";
import { Seed } from "./components/seed/seed.ts";
import { DatabaseServer } from "./components/server/database-server.ts";
import { readSettings } from "./components/settings.ts";
import { ImportedState } from "./components/snapshots/imported.ts";
import { omitUndefined } from "./lib/outputs.ts";

const settings = await readSettings();
keepSecretsPrivate(settings);
await assertCanHandOver(settings);
const { stack, bootstrap, database, passwordVersion, dockerHost, dockerHostIsSet } = settings;
const denyList = settings.readonlyDenyList;

const archiving = archivingFor(settings);
const server = new DatabaseServer("database", { ...settings, keepData: settings.keepDataOnDestroy, archiving });
const { host, port, alias, superuser, superuserPassword, volume, engine } = server;
const access = { host, port, superuser, superuserPassword, passwordVersion, volume };
const base = { ...access, stack, database, alias, network: server.networkName, dockerHost };

const roles = new Roles("roles", { ...access, database, ready: server.ready });
const { owner, app } = roles.access;

const { bootstrapChosen, safetyCopy, selection } = settings;
const source = { bootstrap, bootstrapChosen, safetyCopy, selection };
const importOptions = { newerImage: settings.newerPostgres, jobs: settings.importJobs };
const target = { container: server.containerName, image: server.imageId, denyList };
const loader = { owner: owner.name, ownerPassword: owner.password };
const data = new NeonImport("import", {
  ...base,
  ...source,
  ...importOptions,
  ...target,
  ...loader,
  after: [roles.ready],
});
const privileges = new Privileges("privileges", { ...access, database, denyList, after: [data.ready] });

const names = { names: settings.databases, droppable: settings.droppableDatabases, provider: roles.provider };
const databases = new Databases("databases", {
  ...base,
  ...importOptions,
  ...target,
  ...names,
  after: [privileges.ready],
});

const { migrations: migrating, seed: seeding, handover: passing } = settings;
const login = passing?.role === "owner" ? owner : app;
const logins = Object.fromEntries(Object.entries(databases.access).map(([name, of]) => [name, of.app]));
const { maxConnections } = settings;
const serving = { container: server.containerName, image: server.imageName, maxConnections };
const prepared = [privileges.ready, ...databases.ready];
const handOver = (after: Resource[]) =>
  passing && new HandOver("handover", { ...base, ...passing, ...serving, login, logins, after });

// When the application goes back to Neon, its services are switched first, so that a failing migration cannot prevent it.
const left = passing?.target === "neon" ? handOver(prepared) : undefined;

const on = { engine, dockerHostIsSet };
const before = [privileges.ready, ...(left ? [left.ready] : [])];
const migrations = migrating && new Migrations("migrations", { ...base, ...migrating, owner, ...on, after: before });
const schema = { revision: migrations?.revision, after: [migrations?.ready ?? privileges.ready] };
const seed = seeding && new Seed("seed", { ...base, ...seeding, ...schema, owner });

const after = [...schema.after, ...databases.ready, ...(seed ? [seed.ready] : [])];
const handover = left ?? handOver(after);
const saved = new ImportedState("imported", { ...base, container: server.containerName, after });
const keeping = settings.backups && { settings: settings.backups, keepsData: settings.keepDataOnDestroy };
const backing = { stack, database, dockerHost, server, after: [...after, saved] };
const backups = archiving && keeping && new Backups("backups", { ...backing, ...keeping, archiving });

export default omitUndefined({
  container: server.containerName,
  postgresVersion: server.version,
  address: `${host}:${port}/${database}`,
  imported: data.summary,
  revision: schema.revision,
  seeded: seed?.rows,
  adminPassword: seed?.adminPassword,
  handedOver: handover?.summary,
  backups: backups?.containerName,
  onDestroy: backups?.onDestroy,
  databaseUrls: databases.urls,
  urls: urlsFor(base, { superuser: { name: superuser, password: superuserPassword }, ...roles.access }),
});
