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

describe("privileges", () => {
  test("are one script a database, run with a password that stays secret", () => {
    const { __provider: _, ...given } = get("privileges-grants").inputs;
    expect(given).toEqual({ ...inputs, password: secretly("superuser's") });
  });

  test("come after the data, and go with the volume", () => {
    expect(namesIn(get("privileges").options.dependsOn)).toEqual(["data"]);
    expect(get("privileges-grants").options.deletedWith).toBe(volume);
  });

  test("have no password in what is kept of their code", () => {
    expect(JSON.stringify(get("privileges-grants").inputs.__provider)).not.toContain("superuser's");
  });

  test("reach a stack of an earlier version, which has no privileges for the server's own databases", async () => {
    const { serverScript: _, ...earlier } = { ...inputs, script: "of that version" };
    const olds = { ...earlier, fingerprint: inputsFingerprint(earlier) };
    expect(await provider.diff?.("id", olds, inputs)).toMatchObject({ changes: true, replaces: [] });
    const now = { ...inputs, fingerprint: inputsFingerprint(inputs) };
    expect(await provider.diff?.("id", now, inputs)).toMatchObject({ changes: false });
  });

  test("cannot be taken over from elsewhere", async () => {
    await expect(provider.read?.("id")).rejects.toThrow(
      new Error("pulumi import cannot import a database's privileges; run pulumi up"),
    );
  });
});
