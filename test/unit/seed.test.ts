import * as pulumi from "@pulumi/pulumi";
import { describe, expect, test } from "vitest";
import { tablesNeeded } from "../../components/seed/seed-provider.ts";
import { awaited, record, secretly } from "./pulumi.ts";

async function make(adminMade: boolean, files: string[] = []) {
  let password: pulumi.Output<string | null> | undefined;
  const get = await record(
    async (opts) => {
      const { Seed } = await import("../../components/seed/seed.ts");
      const volume = new pulumi.ComponentResource("test:Volume", "volume");
      const seed = new Seed(
        "seed",
        {
          host: "127.0.0.1",
          port: 1,
          superuser: "postgres",
          superuserPassword: pulumi.secret("superuser's"),
          passwordVersion: 1,
          database: "game",
          owner: { name: "owner", password: pulumi.output("ownerpw") },
          files,
          admin: "admin",
          passwordHash: "md5($1)",
          evenImported: false,
          revision: "0001",
          after: [],
          volume,
        },
        opts,
      );
      password = seed.adminPassword;
      return [seed.ready.urn, seed.adminPassword];
    },
    { seeded: { rows: {}, adminMade } },
  );
  return { get, password: password as pulumi.Output<string | null> };
}

describe("seed data", () => {
  test("is loaded from files in order, with the administrator's password as a secret", async () => {
    const { inputs } = (await make(true, ["sql/extensions.sql"])).get("seeded");
    expect((inputs.files as { name: string }[]).map(({ name }) => name)).toEqual([
      "10-languages.sql",
      "20-translation-namespaces.sql",
      "30-admin-user.sql",
      "extensions.sql",
    ]);
    expect(inputs.adminPassword).toEqual(secretly("value-of-admin-password"));
  });

  test.each([
    [true, "value-of-admin-password"],
    [false, null],
  ])("returns the administrator's password only if the account was created: %s", async (adminMade, expected) => {
    const { password } = await make(adminMade);
    expect(await awaited(password)).toBe(expected);
    expect(await pulumi.isSecret(password)).toBe(true);
  });

  test("from a missing file is an error that names the file", async () => {
    await expect(make(true, ["no/such.sql"])).rejects.toThrow("seedFiles names no/such.sql, which cannot be read");
  });

  test("names the tables that a file needs in its first line", () => {
    expect(tablesNeeded("-- needs: a, b_c\nINSERT")).toEqual(["a", "b_c"]);
    expect(tablesNeeded("INSERT")).toEqual([]);
  });
});
