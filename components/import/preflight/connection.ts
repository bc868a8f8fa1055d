/** Reasons why a source cannot be reached, each with a remedy; and how the connection is protected. Pure. */
import type { TLSSocket } from "node:tls";
import type pg from "pg";
import type { Source } from "../types.ts";
import { type Code, type Finding, finding } from "./findings.ts";

const UNTRUSTED: [Code, string] = [
  "certificate-untrusted",
  "This machine does not trust the authority that signed its certificate. For your own authority, set NEON_ROOT_CERTIFICATES to its PEM file",
];

/** Findings and remedies by SQLSTATE, network error code or TLS error code. */
const REASONS: Record<string, [Code, string]> = {
  "28P01": ["password-wrong", "The password is wrong. Copy NEON_DATABASE_URL again from the Neon console"],
  "28000": ["login-refused", "The server rejects this user. Check the user in NEON_DATABASE_URL"],
  "3D000": ["database-missing", "There is no such database. Check the name at the end of NEON_DATABASE_URL"],
  "42501": ["login-refused", "The user may not connect to this database. On the source: GRANT CONNECT ON DATABASE"],
  "53300": ["connections-exhausted", "It has no connection left. Close some on the source, or raise its limit"],
  "55P03": [
    "table-locked",
    "Another session on the source has locked a table. Try again when that session has finished",
  ],
  "57P03": ["host-silent", "It is starting or stopping. Try again in a minute"],
  EAI_AGAIN: ["host-unknown", "The host name cannot be resolved now. Check the network"],
  ENOTFOUND: ["host-unknown", "The host name does not exist. Check it in NEON_DATABASE_URL, and check the network"],
  ECONNREFUSED: ["port-closed", "No server listens there. Check host and port in NEON_DATABASE_URL"],
  ETIMEDOUT: [
    "host-silent",
    "There is no answer. Check the network, and whether the project is suspended in the Neon console",
  ],
  EHOSTUNREACH: ["host-silent", "The host is unreachable. Check the network"],
  ENETUNREACH: ["host-silent", "The network is unreachable. Check the network"],
  CERT_SIGNATURE_FAILURE: UNTRUSTED,
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  DEPTH_ZERO_SELF_SIGNED_CERT: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
  ERR_TLS_CERT_ALTNAME_INVALID: [
    "certificate-other-host",
    "Its certificate is for another host: this may not be the server you mean",
  ],
  CERT_HAS_EXPIRED: ["certificate-expired", "Its certificate has expired. The server's operator must renew it"],
};

const UNKNOWN: [Code, string] = ["source-unreadable", "Check NEON_DATABASE_URL and the network"];
const UNBOUND: [Code, string] = [
  "channel-binding-missing",
  "Check the host: this may not be the server you mean. If it is, remove channel_binding=require from the URL",
];
const TLS_MISSING: [Code, string] = [
  "tls-missing",
  "Data must leave this machine encrypted. Enable TLS on the server, and check host and port in NEON_DATABASE_URL",
];

/** Neon's errors, matched by their text: its proxy reports all of them as internal errors. */
const NEON_REFUSALS: [RegExp, Code, string][] = [
  [/endpoint could not be found/i, "host-unknown", "Copy NEON_DATABASE_URL again from the Neon console"],
  [/exceeded the .*quota/i, "login-refused", "Check the project's usage in the Neon console"],
  [
    /IP address .* is not allowed/i,
    "login-refused",
    "Add this machine to the project's IP Allow list in the Neon console",
  ],
];

function reasonOf(error: unknown): [Code, string] {
  const { code, message = "" } = error as { code?: string; message?: string };
  const refusal = NEON_REFUSALS.find(([words]) => words.test(message));
  if (refusal) return [refusal[1], refusal[2]];
  const known = REASONS[code ?? ""];
  if (known) return known;
  if (/does not support SSL/.test(message)) return TLS_MISSING;
  if (/does not offer channel binding/.test(message)) return UNBOUND;
  if (code === undefined && /timeout expired/.test(message)) return REASONS.ETIMEDOUT ?? UNKNOWN;
  return UNKNOWN;
}

/** Returns the finding for a source that cannot be reached or read, from the error of the server or the network. */
export function unreadable(label: string, error: unknown): Finding {
  const { code, message } = error as { code?: string; message?: string };
  const [reason, remedy] = reasonOf(error);
  return finding(reason, label, `cannot be read: ${message || code}`, remedy);
}

/** Returns how the connection is protected, and how the URL was changed. */
export function protection(source: Source, client: pg.Client): Finding[] {
  const socket = (client as unknown as { connection?: { stream?: Partial<TLSSocket> } }).connection?.stream;
  const said = source.remarks.map((remark) => finding("connection-changed", source.label, remark));
  if (source.address.tls === undefined) {
    return [...said, finding("clear-text", source.label, "is on this machine; the connection to it is not encrypted")];
  }
  const how = socket?.getProtocol?.() ?? "TLS";
  return [...said, finding("tls", source.label, `${how}; certificate and host name are verified (verify-full)`)];
}
