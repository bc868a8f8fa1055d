/** Checks that a port is free before a container that publishes it is created or replaced. */
import type * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { WantedPort } from "./port-check.ts";

/** Fails the update if another program uses the port. The container must depend on it. */
export class PortCheck extends ResourceOnDisk {
  constructor(name: string, inputs: WantedPort, opts: pulumi.CustomResourceOptions) {
    super("server:PortCheck", "components/server/port-check-provider.ts", name, { ...inputs }, ["fingerprint"], opts);
  }
}
