/** Access to a stack's server, for components whose providers connect to it. */
import type * as pulumi from "@pulumi/pulumi";
import type { Address } from "../../lib/postgres.ts";
import { verifiedTls } from "../../lib/verified-tls.ts";

/** The server's address and its superuser's login. */
export interface SuperuserAccess {
  /** The address on which the server's port is published. */
  readonly host: string;
  /** The port on {@link host}. */
  readonly port: number;
  /** The superuser's name. */
  readonly superuser: string;
  /** The superuser's password. */
  readonly superuserPassword: pulumi.Input<string>;
  /** Raised with every new password, so that the state does not keep an old one. */
  readonly passwordVersion: number;
  /** The authority that signs the server's certificates, PEM; undefined for a server without TLS. */
  readonly authority?: pulumi.Output<string> | undefined;
}

/** A stack's server, as other components see it. DatabaseServer is one. */
export interface ServerAccess extends SuperuserAccess {
  /** The stack's name, from which the names of Docker objects and of files are derived. */
  readonly stack: string;
  /** The stack's database. */
  readonly database: string;
  /** The data volume. Resources inside it are deleted with it. */
  readonly volume: pulumi.Resource;
  /** The server's container. */
  readonly containerName: string;
  /** The stack's network. */
  readonly networkName: pulumi.Input<string>;
  /** The server's name inside the network. */
  readonly alias: string;
  /** The id of the server's image, which has pg_dump, psql and pg_isready of the server's version. */
  readonly imageId: pulumi.Input<string>;
  /** The image's name, for commands that start containers without Pulumi. */
  readonly imageName: string;
  /** The number of sessions that the server permits. */
  readonly maxConnections: number;
  /** Docker engine; undefined for the environment's. */
  readonly dockerHost: string | undefined;
  /** Whether the settings name the engine; otherwise it is the docker command's. */
  readonly dockerHostIsSet: boolean;
}

/** The superuser's login, as part of a provider's inputs. */
export interface SuperuserLogin {
  host: string;
  port: number;
  user: string;
  password: string;
  passwordVersion: number;
  /** The authority of the server's certificate, PEM; undefined for a server without TLS. */
  authority?: string;
}

/** Returns the {@link SuperuserLogin} of a server. */
export const superuserLogin = ({
  host,
  port,
  superuser,
  superuserPassword,
  passwordVersion,
  authority,
}: SuperuserAccess) => ({
  host,
  port,
  user: superuser,
  password: superuserPassword,
  passwordVersion,
  ...(authority ? { authority } : {}),
});

/** Whether the login, or how the server is verified, has changed since the last update. */
export const isLoginChanged = (olds: SuperuserLogin, news: SuperuserLogin): boolean =>
  olds.passwordVersion !== news.passwordVersion || olds.authority !== news.authority;

/** Returns the part of an address that verifies the server; nothing for a server without TLS. */
export const tlsPart = ({ host, authority }: { host: string; authority?: string | undefined }): Pick<Address, "tls"> =>
  authority ? { tls: verifiedTls(authority, host) } : {};

/** Returns the address in a provider's inputs, without the other inputs. */
export const loginAddress = ({
  host,
  port,
  user,
  password,
  database,
  authority,
}: Address & { authority?: string | undefined }): Address => ({
  host,
  port,
  user,
  password,
  database,
  ...tlsPart({ host, authority }),
});
