/** Connection URLs, as psycopg2, asyncpg and Alembic all take them: bare, without any parameter. */
import * as pulumi from "@pulumi/pulumi";
import type { RoleAccess } from "./roles.ts";

/** Where a database is. */
export interface Place {
  host: string;
  port: number;
  database: string;
}

/** One role's URL. It holds a password, so it is a secret. */
export const urlFor = ({ host, port, database }: Place, { name, password }: RoleAccess): pulumi.Output<string> =>
  pulumi.secret(pulumi.interpolate`postgresql://${name}:${password}@${host}:${port}/${database}`);

/** A URL for each role. */
export function urlsFor<K extends string>(place: Place, roles: Readonly<Record<K, RoleAccess>>) {
  const entries = Object.entries<RoleAccess>(roles).map(([key, role]) => [key, urlFor(place, role)]);
  return Object.fromEntries(entries) as Record<K, pulumi.Output<string>>;
}
