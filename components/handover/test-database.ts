/** The database for the application's own tests. */
import type * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { SuperuserLogin } from "../server/server-access.ts";

/** Inputs of {@link TestDatabase}. */
export interface TestDatabaseInputs extends SuperuserLogin {
  database: string;
  /** The owner of the database and its schema: tests create and drop tables. */
  owner: string;
}

export class TestDatabase extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super(
      "handover:TestDatabase",
      "components/handover/test-database-provider.ts",
      name,
      inputs,
      ["fingerprint"],
      opts,
    );
  }
}
