/** The database in which the application's own tests may do what they like. */
import type * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";

/** Inputs of {@link TestDatabase}. */
export interface TestDatabaseInputs {
  host: string;
  port: number;
  user: string;
  password: string;
  passwordVersion: number;
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
