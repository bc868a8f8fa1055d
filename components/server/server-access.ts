/** Access to a stack's server, for components whose providers connect to it. */
import type * as pulumi from "@pulumi/pulumi";
import type { Address } from "../../lib/postgres.ts";

/** The server's address and its superuser's login. */
export interface ServerAccess {
  host: string;
  port: number;
  superuser: string;
  superuserPassword: pulumi.Input<string>;
  /** Raised with every new password, so that the state does not keep an old one. */
  passwordVersion: number;
  /** The data volume. Resources inside it are deleted with it. */
  volume: pulumi.Resource;
}

/** The superuser's login, as part of a provider's inputs. */
export interface SuperuserLogin {
  host: string;
  port: number;
  user: string;
  password: string;
  passwordVersion: number;
}

/** Returns the {@link SuperuserLogin} of a server. */
export const superuserLogin = ({ host, port, superuser, superuserPassword, passwordVersion }: ServerAccess) => ({
  host,
  port,
  user: superuser,
  password: superuserPassword,
  passwordVersion,
});

/** Returns the address in a provider's inputs, without the other inputs. */
export const loginAddress = <Inputs extends Address>({ host, port, user, password, database }: Inputs): Address => ({
  host,
  port,
  user,
  password,
  database,
});
