import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import { provider } from "../../components/privileges/prepared-provider.ts";
import { preparationScript, serverScript } from "../../components/privileges/scripts.ts";
import { inputsFingerprint } from "../../lib/dynamic.ts";
import { type Asked, namesIn, record, secretly, serverWith } from "./pulumi.ts";

let get: (name: string) => Asked;
let volume: pulumi.Resource | undefined;
beforeAll(async () => {
  get = await record(async (opts) => {
    const { Privileges } = await import("../../components/privileges/privileges.ts");
    const server = serverWith({ database: "sectorwars_test" });
    volume = server.volume;
    const data = new pulumi.ComponentResource("test:Data", "data");
    const { urn } = new Privileges("privileges", { server, denyList: ["mfa_*"] }, { ...opts, dependsOn: data });
    return [urn];
  });
});

const inputs = {
  ...{ host: "127.0.0.1", port: 15500, user: "postgres", password: "superuser's", passwordVersion: 1 },
  database: "sectorwars_test",
  script: preparationScript("sectorwars_test", ["mfa_*"]),
  serverScript: serverScript(),
};

describe("the component Privileges", () => {
  test("runs one script for the database, with the password as a secret", () => {
    const { __provider: _, ...given } = get("privileges-grants").inputs;
    expect(given).toEqual({ ...inputs, password: secretly("superuser's") });
  });

  test("waits for the data, and is deleted with the volume", () => {
    expect(namesIn(get("privileges").options.dependsOn)).toEqual(["data"]);
    expect(get("privileges-grants").options.deletedWith).toBe(volume);
  });

  test("stores no password in its serialised provider", () => {
    expect(JSON.stringify(get("privileges-grants").inputs.__provider)).not.toContain("superuser's");
  });

  test("updates a stack of an earlier version, whose inputs have no script for the server's own databases", async () => {
    const { serverScript: _, ...earlier } = { ...inputs, script: "of that version" };
    const olds = { ...earlier, fingerprint: inputsFingerprint(earlier) };
    expect(await provider.diff?.("id", olds, inputs)).toMatchObject({ changes: true, replaces: [] });
    const now = { ...inputs, fingerprint: inputsFingerprint(inputs) };
    expect(await provider.diff?.("id", now, inputs)).toMatchObject({ changes: false });
  });

  test("refuses pulumi import", async () => {
    await expect(provider.read?.("id")).rejects.toThrow(
      new Error("pulumi import cannot import a database's privileges; run pulumi up"),
    );
  });
});
