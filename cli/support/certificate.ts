/** The certificate that a stack's server presents, for `status`, `doctor` and `certificates`. */
import { daysUntil, RENEW_DAYS, readServedCertificate, type ServedCertificate } from "../../lib/server-tls.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";

/** The certificate, and what is wrong with it. */
export interface CertificateStatus extends ServedCertificate {
  daysLeft: number;
  problem?: string;
  remedy?: string;
}

/** Judges a certificate. Pure. */
export function judgeCertificate(served: ServedCertificate, stack: string, now = new Date()): CertificateStatus {
  const daysLeft = daysUntil(new Date(served.validUntil), now);
  if (daysLeft >= RENEW_DAYS) return { ...served, daysLeft };
  const problem =
    daysLeft < 0
      ? `the certificate expired at ${served.validUntil}, so clients that verify it refuse the connection`
      : `the certificate expires in ${daysLeft} days, at ${served.validUntil}`;
  return { ...served, daysLeft, problem, remedy: `./db certificates rotate --stack ${stack}` };
}

/**
 * Reads the certificate of a stack's server.
 * @returns undefined for a stack without TLS.
 * @throws {Error} if the server does not answer, or does not offer TLS although the stack has it.
 */
export async function readCertificate({
  stack,
  authority,
  urls,
}: StackOutputs): Promise<CertificateStatus | undefined> {
  if (authority === undefined) return undefined;
  const { host, port } = addressOf(urls.superuser ?? "");
  const served = await readServedCertificate(host, port);
  if (served === undefined) throw new Error(`the server at ${host}:${port} does not offer TLS`);
  return judgeCertificate(served, stack);
}

/** Returns the certificate as one line. */
export const describeCertificate = ({ validUntil, daysLeft, protocol, names }: CertificateStatus): string =>
  `${protocol}, certificate valid until ${validUntil} (${daysLeft} days), for ${names.join(", ")}`;
