/** The authority of a stack, and the server's certificate, which is renewed in the running server. */
import { readFileSync } from "node:fs";
import type * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { Names } from "../../lib/naming.ts";
import { TLS_FOLDER } from "../../lib/server-tls.ts";
import { LOOPBACK, type TlsSettings } from "./settings.ts";

const SERVER_FILE = `${TLS_FOLDER}/server.pem`;

const START = "/run/start-tls.sh";
const HBA = "/run/pg_hba.conf";

/** PostgreSQL's settings for TLS, which take precedence over those without. */
export const TLS_PARAMETERS = {
  hba_file: HBA,
  ssl: "on",
  // One file has both, so that a renewal replaces both in one rename.
  ssl_cert_file: SERVER_FILE,
  ssl_key_file: SERVER_FILE,
  ssl_min_protocol_version: "TLSv1.2",
};

/** The entry point of a container with TLS. */
export const TLS_ENTRYPOINT = ["sh", START];

/**
 * Returns the files of a container with TLS: the entry point, the access rules, and the first certificate. They are uploaded instead of
 * being part of the image, because a change of the image restarts every stack's server.
 */
export const tlsFiles = ({ authority, first }: CertificateAuthority): docker.types.input.ContainerUpload[] => [
  { file: START, content: readFileSync("images/uploads/start-tls.sh", "utf8") },
  { file: HBA, content: readFileSync("images/uploads/pg_hba-tls.conf", "utf8") },
  { file: "/run/authority.crt", content: authority },
  { file: "/run/server-certificate.pem", content: first, permissions: "0600" },
];

/** Returns all names and addresses under which clients reach the server. */
export const certificateHosts = ({ alias, container }: Names, host: string, { names }: TlsSettings): string[] => [
  ...new Set([alias, container, "localhost", LOOPBACK, "::1", host, ...names]),
];

/** Inputs of {@link CertificateAuthority}. */
export interface CertificateAuthorityInputs {
  stack: string;
  /** The names of the first certificate. */
  hosts: string[];
  /** The number of days for which the first certificate is valid. */
  days: number;
}

/** Outputs of {@link CertificateAuthority}, as its provider returns them. */
export interface CertificateAuthorityOutputs {
  authority: string;
  authorityKey: string;
  first: string;
  /** When the authority ends. */
  authorityUntil: string;
}

/**
 * A stack's authority, and the certificate with which its server starts. It is a resource of its own, because its outputs are uploaded to
 * the container, and a change of them would replace that.
 */
export class CertificateAuthority extends ResourceOnDisk {
  /** The authority's certificate, PEM. */
  declare readonly authority: pulumi.Output<string>;
  declare readonly authorityKey: pulumi.Output<string>;
  /** The first certificate and its key, PEM. */
  declare readonly first: pulumi.Output<string>;

  constructor(name: string, inputs: CertificateAuthorityInputs, opts: pulumi.CustomResourceOptions) {
    const outputs = ["authority", "authorityKey", "first", "authorityUntil"];
    super("server:CertificateAuthority", "components/server/authority-provider.ts", name, { ...inputs }, outputs, {
      ...opts,
      additionalSecretOutputs: ["authorityKey", "first"],
    });
    // additionalSecretOutputs does not apply before the first update, and depends on the language host.
    this.authorityKey = pulumi.secret(this.authorityKey);
    this.first = pulumi.secret(this.first);
  }
}

/** Inputs of {@link CertificateInServer}. */
export interface CertificateInputs {
  authority: string;
  authorityKey: string;
  hosts: string[];
  days: number;
  container: string;
  /** Changes with the container, which then needs the certificate again. */
  containerId: string;
  /** Where the server is reached, to see that it presents the certificate. */
  host: string;
  port: number;
  dockerHost: string | undefined;
}

/** Outputs of {@link CertificateInServer}, as its provider returns them. */
export interface CertificateOutputs {
  /** The certificate and its key, PEM. */
  pair: string;
  serial: string;
  validUntil: string;
  fingerprint: string;
}

/** The server's certificate, in the running server. */
export class CertificateInServer extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    const outputs = ["pair", "serial", "validUntil", "fingerprint"];
    super("server:Certificate", "components/server/certificate-provider.ts", name, inputs, outputs, {
      ...opts,
      additionalSecretOutputs: ["pair", "authorityKey"],
    });
  }
}
