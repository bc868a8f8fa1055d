/** `./db certificates`: the server's certificate and its authority. */
import type { Command } from "@commander-js/extra-typings";
import { ROTATE_VARIABLE, writeAuthority } from "../lib/server-tls.ts";
import { readDynamicResources, readStack, type StackOutputs, updateStack } from "../lib/stack.ts";
import { describeCertificate, readCertificate } from "./support/certificate.ts";
import { UsageError } from "./support/errors.ts";
import { addExamples, type Invocation, onStack } from "./support/subcommand.ts";

/** The type of the resource whose update renews the certificate. */
const CERTIFICATE = "server:Certificate";

/** @throws {UsageError} for a stack without TLS. */
async function readEncrypted(stack: string): Promise<StackOutputs & { authority: string }> {
  const outputs = await readStack(stack);
  const { authority } = outputs;
  if (authority !== undefined) return { ...outputs, authority };
  throw new UsageError(
    `The stack ${stack} has no TLS. To switch it on: pulumi config set tls true --stack ${stack}, then pulumi up --stack ${stack}`,
  );
}

async function show({ stack, print }: Invocation): Promise<number> {
  const outputs = await readEncrypted(stack);
  const certificate = await readCertificate(outputs);
  if (certificate === undefined) return 1;
  const authorityFile = writeAuthority(stack, outputs.authority);
  const { problem, remedy, serial } = certificate;
  const lines = [
    describeCertificate(certificate),
    `serial ${serial}`,
    `authority ${authorityFile}`,
    ...(problem ? [`${problem}. Renew it: ${remedy}`] : []),
  ];
  print(lines.join("\n"), { ...certificate, authorityFile });
  return problem ? 1 : 0;
}

async function authority({ stack, print }: Invocation): Promise<number> {
  const { authority } = await readEncrypted(stack);
  print(authority.trimEnd(), { authority });
  return 0;
}

async function rotate({ stack, say, print }: Invocation): Promise<number> {
  const outputs = await readEncrypted(stack);
  const resource = (await readDynamicResources(stack)).get(CERTIFICATE);
  if (resource === undefined)
    throw new Error(`The stack ${stack} has no certificate yet. Run: pulumi up --stack ${stack}`);
  const before = await readCertificate(outputs).catch(() => undefined);
  say("Renewing the certificate. Connections stay open");
  await updateStack(stack, [resource.urn], { [ROTATE_VARIABLE]: "yes" });
  const after = await readCertificate(outputs);
  if (after === undefined || after.serial === before?.serial) {
    throw new Error(
      `The server still presents the certificate ${before?.serial}. Find the cause: ./db doctor --stack ${stack}`,
    );
  }
  print(`The server presents a new certificate: ${describeCertificate(after)}`, { before: before?.serial, ...after });
  return 0;
}

/** Configures the command `./db certificates`. */
export default function certificates(command: Command): void {
  command.description(
    "Shows and renews the certificate of a server with TLS. pulumi up renews it when fewer than 30 days are left.",
  );
  command
    .command("show")
    .description("Shows the certificate that the server presents. Exits with 1 if it ends within 30 days.")
    .action(onStack(show));
  command
    .command("rotate")
    .description("Gives the running server a new certificate of the same authority. Connections stay open.")
    .action(onStack(rotate));
  command
    .command("authority")
    .description("Prints the certificate of the authority, which clients need to verify the server.")
    .action(onStack(authority));
  addExamples(command, {
    "certificates show": "show the names and the end of the certificate",
    "certificates rotate": "renew it now",
    "certificates authority": "print the authority, for other clients",
  });
}
