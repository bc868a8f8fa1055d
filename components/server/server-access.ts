/** The way into a stack's server, for components whose providers work in it. */
import type * as pulumi from "@pulumi/pulumi";
import type { Address } from "../../lib/postgres.ts";

/** The server as its superuser reaches it. */
export interface ServerAccess {
  host: string;
  port: number;
  superuser: string;
  superuserPassword: pulumi.Input<string>;
  /** Counts up with every new password, so that the state never keeps an old one. */
  passwordVersion: number;
  /** The volume with the data: what is in it goes with it. */
  volume: pulumi.Resource;
}

/** The superuser's login, as providers get it among their inputs. */
export interface SuperuserLogin {
  host: string;
  port: number;
  user: string;
  password: string;
  passwordVersion: number;
}

/** {@link SuperuserLogin} of a server. */
export const superuserLogin = ({ host, port, superuser, superuserPassword, passwordVersion }: ServerAccess) => ({
  host,
  port,
  user: superuser,
  password: superuserPassword,
  passwordVersion,
});

/** Where a provider's login works: its inputs without everything else. */
export const loginAddress = <Inputs extends Address>({ host, port, user, password, database }: Inputs): Address => ({
  host,
  port,
  user,
  password,
  database,
});
