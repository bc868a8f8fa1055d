/** Finds the engine of Docker's current context. The docker command uses contexts (Docker Desktop and Colima create one); Pulumi's provider does not. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** The part of `docker context inspect` that this module uses. */
interface Context {
  Endpoints: { docker?: { Host?: string } };
  /** The names of the TLS files, by endpoint. */
  TLSMaterial?: { docker?: string[] };
  Storage?: { TLSPath?: string };
}

/** Returns the name of the docker command's current context, or undefined for the default one, which the provider uses too. */
function currentContext(environment: NodeJS.ProcessEnv): string | undefined {
  let name = environment.DOCKER_CONTEXT;
  if (!name) {
    const folder = environment.DOCKER_CONFIG || join(homedir(), ".docker");
    try {
      name = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")).currentContext;
    } catch {
      // Usually there is no such file, and the docker command itself reports one that it cannot read.
    }
  }
  return name && name !== "default" ? name : undefined;
}

/**
 * Returns the address of the current context's engine, for example unix:///home/me/.colima/default/docker.sock. Undefined if DOCKER_HOST
 * is set, which every program uses, or if no context is selected.
 * @throws {Error} with the remedy, for a context that does not exist or needs TLS.
 */
export function contextEndpoint(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  if (environment.DOCKER_HOST) return undefined;
  const name = currentContext(environment);
  if (name === undefined) return undefined;
  const { Endpoints, TLSMaterial, Storage } = inspect(name, environment);
  const host = Endpoints.docker?.Host;
  if (!host) throw new Error(`Docker's context ${name} has no address. Select another one: docker context use default`);
  if ((TLSMaterial?.docker ?? []).length > 0) {
    throw new Error(
      `Docker's context ${name} uses TLS, which Pulumi's provider reads only from the environment. Run: export DOCKER_HOST=${host} ` +
        `DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH='${join(Storage?.TLSPath ?? "", "docker")}'`,
    );
  }
  return host;
}

function inspect(name: string, environment: NodeJS.ProcessEnv): Context {
  try {
    const stdio: ("ignore" | "pipe")[] = ["ignore", "pipe", "pipe"];
    const text = execFileSync("docker", ["context", "inspect", name], { env: environment, encoding: "utf8", stdio });
    return JSON.parse(text)[0];
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    throw new Error(
      `Docker's context ${name} cannot be read (${(stderr || message).trim()}). Select another one: docker context use default`,
    );
  }
}
