import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import { provider } from "../../components/privileges/prepared-provider.ts";
import { preparationScript, serverScript } from "../../components/privileges/scripts.ts";
import { type Asked, namesIn, record, secretly } from "./pulumi.ts";

let get: (name: string) => Asked;
let volume: pulumi.Resource | undefined;
beforeAll(async () => {
  get = await record(async (opts) => {
    const { Privileges } = await import("../../components/privileges/privileges.ts");
    volume = new pulumi.ComponentResource("test:Volume", "volume");
    const data = new pulumi.ComponentResource("test:Data", "data");
    const { ready } = new Privileges(
      "privileges",
      {
        host: "127.0.0.1",
        port: 15500,
        superuser: "postgres",
        superuserPassword: pulumi.secret("superuser's"),
        passwordVersion: 1,
        database: "sectorwars_test",
        denyList: ["mfa_*"],
        after: [data],
        volume,
      },
      opts,
    );
    return [ready.urn];
  });
});

describe("privileges", () => {
  test("are one script a database, run with a password that stays secret", () => {
    const { __provider: _, ...inputs } = get("prepared").inputs;
    expect(inputs).toEqual({
      host: "127.0.0.1",
      port: 15500,
      user: "postgres",
      password: secretly("superuser's"),
      passwordVersion: 1,
      database: "sectorwars_test",
      script: preparationScript("sectorwars_test", ["mfa_*"]),
      serverScript: serverScript(),
    });
  });

  test("come after the data, and go with the volume", () => {
    const { dependsOn, deletedWith } = get("prepared").options;
    expect(namesIn(dependsOn)).toEqual(["data"]);
    expect(deletedWith).toBe(volume);
  });

  test("have no password in what is kept of their code", () => {
    expect(JSON.stringify(get("prepared").inputs.__provider)).not.toContain("superuser's");
  });

  test("cannot be taken over from elsewhere", async () => {
    await expect(provider.read?.("id")).rejects.toThrow(
      new Error("the database's preparation cannot be imported; run pulumi up"),
    );
  });
});
