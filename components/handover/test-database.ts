/** The database in which the application's own tests may do what they like. */
import type * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import type { SuperuserLogin } from "../server/server-access.ts";

/** Inputs of {@link TestDatabase}. */
export interface TestDatabaseInputs extends SuperuserLogin {
  database: string;
  /** Owns the database and its schema: tests make and drop tables. */
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
