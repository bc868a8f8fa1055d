import * as pulumi from "@pulumi/pulumi";
import { describe, expect, test } from "vitest";
import { tablesNeeded } from "../../components/seed/seed-provider.ts";
import { awaited, record, secretly, serverWith } from "./pulumi.ts";

async function make(adminMade: boolean, files: string[] = []) {
  let password: pulumi.Output<string | null> | undefined;
  const get = await record(
    async (opts) => {
      const { Seed } = await import("../../components/seed/seed.ts");
      const seed = new Seed(
        "seed",
        {
          server: serverWith(),
          owner: { name: "owner", password: pulumi.output("ownerpw") },
          revision: "0001",
          settings: { files, admin: "admin", passwordHash: "md5($1)", evenImported: false },
        },
        opts,
      );
      password = seed.adminPassword;
      return [seed.urn, seed.adminPassword];
    },
    { "seed-rows": { rows: {}, adminMade } },
  );
  return { get, password: password as pulumi.Output<string | null> };
}

describe("seed data", () => {
  test("is loaded from files in order, with the administrator's password as a secret", async () => {
    const { inputs } = (await make(true, ["sql/extensions.sql"])).get("seed-rows");
    expect((inputs.files as { name: string }[]).map(({ name }) => name)).toEqual([
      "10-languages.sql",
      "20-translation-namespaces.sql",
      "30-admin-user.sql",
      "extensions.sql",
    ]);
    expect(inputs.adminPassword).toEqual(secretly("value-of-seed-admin-password"));
  });

  test.each([
    [true, "value-of-seed-admin-password"],
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
