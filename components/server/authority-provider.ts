/** Creates a stack's authority, and a new one before it ends. Runs inside Pulumi's dynamic provider. */
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { dynamic } from "@pulumi/pulumi";
import { issueCertificate, makeAuthority, validFor } from "../../lib/certificates.ts";
import { authorityPath, certificateFacts, isDue } from "../../lib/server-tls.ts";
import type { CertificateAuthorityInputs, CertificateAuthorityOutputs } from "./certificates.ts";

const YEARS_10 = 3652;

async function make({ stack, hosts, days }: CertificateAuthorityInputs): Promise<CertificateAuthorityOutputs> {
  const authority = await makeAuthority(`Sectorwars database authority of the stack ${stack}`, validFor(YEARS_10));
  const { certificate, key } = await issueCertificate(authority, hosts, validFor(days));
  return {
    authority: authority.certificate,
    authorityKey: authority.key,
    first: `${key}\n${certificate}\n`,
    authorityUntil: certificateFacts(authority.certificate).validUntil,
  };
}

/** The authority depends on no input, so only its own end changes it. */
export const provider: dynamic.ResourceProvider = {
  async diff(_id, olds: CertificateAuthorityOutputs) {
    return { changes: isDue(olds.authorityUntil), replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: CertificateAuthorityInputs) {
    return { id: inputs.stack, outs: { ...inputs, ...(await make(inputs)) } };
  },

  async update(_id, _olds, inputs: CertificateAuthorityInputs) {
    return { outs: { ...inputs, ...(await make(inputs)) } };
  },

  async delete(_id, { stack }: CertificateAuthorityInputs) {
    await rm(dirname(authorityPath(stack)), { recursive: true, force: true });
  },
};
