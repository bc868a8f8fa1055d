/** Issues the server's certificate, and puts it into the running server. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { issueCertificate, validFor } from "../../lib/certificates.ts";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { certificateFacts, isDue, ROTATE_VARIABLE } from "../../lib/server-tls.ts";
import type { CertificateInputs, CertificateOutputs } from "./certificates.ts";
import { installCertificate } from "./install-certificate.ts";

type Outs = CertificateInputs & CertificateOutputs;

/** What a certificate is issued for. Another container, or another lifetime of the next one, does not need a new certificate. */
const subjectOf = ({ authority, hosts }: CertificateInputs): string => JSON.stringify([authority, [...hosts].sort()]);

/** Returns one value for the certificate and its place. The key has the authority's lifetime, and the number of days counts once. */
const fingerprintOf = ({ authorityKey: _key, days: _days, ...inputs }: CertificateInputs): string =>
  inputsFingerprint(inputs);

const isRotation = (): boolean => (process.env[ROTATE_VARIABLE] ?? "") !== "";

async function issue({ authority, authorityKey, hosts, days }: CertificateInputs) {
  const signer = { certificate: authority, key: authorityKey };
  const validity = validFor(days);
  // A certificate is not valid for longer than its authority.
  const end = new Date(certificateFacts(authority).validUntil);
  const notAfter = end < validity.notAfter ? end : validity.notAfter;
  const { certificate, key } = await issueCertificate(signer, hosts, { ...validity, notAfter });
  return { pair: `${key}\n${certificate}\n`, ...certificateFacts(certificate) };
}

async function install(inputs: CertificateInputs, former?: Outs): Promise<Outs> {
  const isFine =
    former !== undefined && subjectOf(former) === subjectOf(inputs) && !isDue(former.validUntil) && !isRotation();
  const { pair, serial, validUntil } = isFine ? former : await issue(inputs);
  const isInstalled = await installCertificate(inputs, { pair, serial });
  if (former !== undefined && !isFine) {
    console.log(`tls: the server presents a new certificate, valid until ${validUntil}; connections stayed open`);
  }
  return { ...inputs, pair, serial, validUntil, fingerprint: isInstalled ? fingerprintOf(inputs) : "not installed" };
}

export const provider: dynamic.ResourceProvider = {
  async diff(id, olds: Outs, news: CertificateInputs) {
    const { authorityKey: _key, days: _days, ...inputs } = news;
    const diff = await diffByFingerprint(id, olds, inputs);
    return { ...diff, changes: diff.changes || isDue(olds.validUntil) || isRotation() };
  },

  async create(inputs: CertificateInputs) {
    return { id: inputs.container, outs: await install(inputs) };
  },

  async update(_id, olds: Outs, inputs: CertificateInputs) {
    return { outs: await install(inputs, olds) };
  },
};
