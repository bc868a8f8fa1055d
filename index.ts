/** The stack's components, in the order in which they are created. */
import "./lib/disable-source-maps.ts";
import { type Resource, secret } from "@pulumi/pulumi";
import { archivingFor, Backups } from "./components/backups/backups.ts";
import { Databases } from "./components/databases/databases.ts";
import { HandOver } from "./components/handover/handover.ts";
import { NeonImport } from "./components/import/neon-import.ts";
import { Migrations } from "./components/migrations/migrations.ts";
import { holdBeforeReplace, Pooler } from "./components/pooler/pooler.ts";
import { prepareUpdate } from "./components/prepare.ts";
import { Privileges } from "./components/privileges/privileges.ts";
import { Replicas } from "./components/replicas/replicas.ts";
import { Roles } from "./components/roles/roles.ts";
import { Seed } from "./components/seed/seed.ts";
import { DatabaseServer } from "./components/server/database-server.ts";
import { ImportedState } from "./components/snapshots/imported.ts";
import { omitUndefined } from "./lib/outputs.ts";

const settings = await prepareUpdate();
const { stack, database, denyList } = settings;
const { migrations: alembic, seed: seeds, handover: application, backups: schedules } = settings;

const archiving = schedules && archivingFor({ stack, bootstrap: settings.import.bootstrap, settings: schedules });
const beforeReplace = settings.pooler && holdBeforeReplace({ stack, dockerHost: settings.server.dockerHost });
const server = new DatabaseServer("database", {
  stack,
  database,
  archiving,
  beforeReplace,
  settings: settings.server,
});
const roles = new Roles("roles", { server, timeouts: settings.timeouts }, { dependsOn: server });
const { owner } = roles.access;
const listed = [database, ...settings.databases.names];
const through = { provider: server.engine, dependsOn: roles };
const pooler =
  settings.pooler &&
  new Pooler(
    "pooler",
    { server, databases: listed, hasReplicas: settings.replicas !== undefined, settings: settings.pooler },
    through,
  );
const data = new NeonImport("import", { server, owner, denyList, settings: settings.import }, { dependsOn: roles });
// The pooler too has privileges on the server's own database, and two changes of them at once conflict.
const privileges = new Privileges(
  "privileges",
  { server, denyList },
  { dependsOn: [data, ...(pooler ? [pooler] : [])] },
);
const databases = new Databases(
  "databases",
  { server, roles, denyList, settings: settings.databases, importSettings: settings.import },
  { dependsOn: privileges },
);
const copies = { provider: server.engine, dependsOn: [data, databases] };
const replicas =
  settings.replicas &&
  new Replicas("replicas", { server, superuser: roles.provider, settings: settings.replicas }, copies);
const handOver = (dependsOn: Resource[]) =>
  application &&
  new HandOver("handover", { server, roles, databases, pooler, replicas, settings: application }, { dependsOn });
// When the application goes back to Neon, its services are switched first, so that a failing migration cannot prevent it.
const left = application?.target === "neon" ? handOver([privileges, databases]) : undefined;
const before = { provider: server.engine, dependsOn: [privileges, ...(left ? [left.files] : [])] };
const migrations = alembic && new Migrations("migrations", { server, owner, settings: alembic }, before);
const schema = migrations ?? privileges;
const seed =
  seeds && new Seed("seed", { server, owner, revision: migrations?.revision, settings: seeds }, { dependsOn: schema });
const complete = [schema, databases, ...(seed ? [seed] : [])];
const handover = left ?? handOver(complete);
const imported = new ImportedState("imported", { server }, { dependsOn: complete });
const after = { provider: server.engine, dependsOn: [...complete, imported] };
const backups = schedules && archiving && new Backups("backups", { server, archiving, settings: schedules }, after);

export default omitUndefined({
  container: server.containerName,
  postgresVersion: server.version,
  address: `${server.host}:${server.port}/${database}`,
  // Not secret, but Pulumi would print all lines of the certificate after every update.
  authority: server.authority && secret(server.authority),
  imported: data.summary,
  revision: migrations?.revision,
  seeded: seed?.rows,
  adminPassword: seed?.adminPassword,
  handedOver: handover?.summary,
  pooler: pooler?.summary,
  backups: backups?.containerName,
  onDestroy: backups?.onDestroy,
  replicas: replicas?.addresses,
  replicatorUrl: replicas?.replicatorUrl,
  databaseUrls: databases.urls,
  urls: roles.urls,
});
