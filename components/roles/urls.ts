/** Connection URLs without parameters, which psycopg2, asyncpg and Alembic all accept. */
import * as pulumi from "@pulumi/pulumi";
import type { RoleAccess } from "./roles.ts";

/** The address of a database. */
export interface Place {
  host: string;
  port: number;
  database: string;
}

/** Returns a role's URL, which contains its password and is therefore a secret. */
export const urlFor = ({ host, port, database }: Place, { name, password }: RoleAccess): pulumi.Output<string> =>
  pulumi.secret(pulumi.interpolate`postgresql://${name}:${password}@${host}:${port}/${database}`);

/** Returns a URL for each role. */
export function urlsFor<K extends string>(place: Place, roles: Readonly<Record<K, RoleAccess>>) {
  const entries = Object.entries<RoleAccess>(roles).map(([key, role]) => [key, urlFor(place, role)]);
  return Object.fromEntries(entries) as Record<K, pulumi.Output<string>>;
}
