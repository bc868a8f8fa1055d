/** The stack, in the order in which it comes to be. */
import * as pulumi from "@pulumi/pulumi";
import { Privileges } from "./components/privileges/privileges.ts";
import { Roles } from "./components/roles/roles.ts";
import { DatabaseServer } from "./components/server/database-server.ts";
import { readSettings } from "./components/settings.ts";

const settings = readSettings();
const { stack, database } = settings;

const server = new DatabaseServer("database", { ...settings, keepData: settings.keepDataOnDestroy });
const { host, port, superuser, superuserPassword, ready, volume } = server;
const access = { host, port, superuser, superuserPassword, volume };

const roles = new Roles("roles", { ...access, passwordVersion: settings.passwordVersion, ready });

const privileges = new Privileges("privileges", {
  ...access,
  database,
  denyList: settings.readonlyDenyList,
  after: [roles.ready],
});
void privileges;
void stack;
void pulumi;
