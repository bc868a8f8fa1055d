/** The engine of Docker's current context. The docker command follows contexts (Docker Desktop and Colima make one); Pulumi's provider does not. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** The part of `docker context inspect` that is used. */
interface Context {
  Endpoints: { docker?: { Host?: string } };
  /** Names of the files that TLS needs, by endpoint. */
  TLSMaterial?: { docker?: string[] };
  Storage?: { TLSPath?: string };
}

/** The name of the current context, as the docker command finds it; undefined for its own default, which the provider has as well. */
function currentContext(environment: NodeJS.ProcessEnv): string | undefined {
  let name = environment.DOCKER_CONTEXT;
  if (!name) {
    const folder = environment.DOCKER_CONFIG || join(homedir(), ".docker");
    try {
      name = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")).currentContext;
    } catch {
      // No such file is the usual case, and the docker command itself tells of one that it cannot read.
    }
  }
  return name && name !== "default" ? name : undefined;
}

/**
 * The address of the current context's engine, for instance unix:///home/me/.colima/default/docker.sock. Undefined where DOCKER_HOST,
 * which everything follows, or nothing at all is set.
 * @throws {Error} for a context that is gone, or needs TLS, with the remedy.
 */
export function contextEndpoint(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  if (environment.DOCKER_HOST) return undefined;
  const name = currentContext(environment);
  if (name === undefined) return undefined;
  const { Endpoints, TLSMaterial, Storage } = inspect(name, environment);
  const host = Endpoints.docker?.Host;
  if (!host) throw new Error(`Docker's context ${name} has no address. Choose another: docker context use default`);
  if ((TLSMaterial?.docker ?? []).length > 0) {
    throw new Error(
      `Docker's context ${name} uses TLS, which Pulumi's provider takes from the environment alone. Run: export DOCKER_HOST=${host} ` +
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
      `Docker's context ${name} cannot be read (${(stderr || message).trim()}). Choose another: docker context use default`,
    );
  }
}
