import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import type { Roles } from "../../components/roles/roles.ts";
import { ROLE_NAMES, type RoleKey } from "../../lib/role-names.ts";
import { passwordVerifier } from "../../lib/scram.ts";
import { type Asked, awaited, namesIn, record, secretly, serverWith } from "./pulumi.ts";

const KEYS = Object.keys(ROLE_NAMES) as RoleKey[];

async function make(passwordVersion = 1) {
  let roles: Roles | undefined;
  let volume: pulumi.Resource | undefined;
  const get = await record(async (opts) => {
    const { Roles } = await import("../../components/roles/roles.ts");
    const server = serverWith({ passwordVersion });
    volume = server.volume;
    const ready = new pulumi.ComponentResource("test:Ready", "server-ready");
    roles = new Roles("roles", { server }, { ...opts, dependsOn: ready });
    return [roles.urn, ...Object.values(roles.access).map(({ password }) => password)];
  });
  return { get, roles: roles as Roles, volume };
}

let get: (name: string) => Asked;
let roles: Roles;
let volume: pulumi.Resource | undefined;
beforeAll(async () => {
  ({ get, roles, volume } = await make());
});

describe("the component Roles", () => {
  test("creates four roles with the names that the application uses", () => {
    expect(KEYS).toEqual(["owner", "app", "readonly", "monitor"]);
    for (const key of KEYS) {
      expect(get(`roles-${key}`).type).toBe("postgresql:index/role:Role");
      expect(get(`roles-${key}`).inputs).toMatchObject({ name: `sectorwars_${key}`, login: true });
      expect(roles.access[key].name).toBe(`sectorwars_${key}`);
    }
  });

  test("gives each role its own secret, alphanumeric password of 32 characters", async () => {
    for (const key of KEYS) {
      expect(get(`roles-${key}-password`).inputs).toMatchObject({
        length: 32,
        special: false,
        keepers: { version: "1" },
      });
      const verifier = passwordVerifier(`sectorwars_${key}`, `value-of-roles-${key}-password`);
      expect(get(`roles-${key}`).inputs.password).toEqual(secretly(verifier));
      expect(await awaited(roles.access[key].password)).toBe(`value-of-roles-${key}-password`);
      expect(await pulumi.isSecret(roles.access[key].password)).toBe(true);
    }
  });

  test("changes only the passwords if passwordVersion changes", async () => {
    const second = await make(2);
    for (const key of KEYS) {
      expect(second.get(`roles-${key}-password`).inputs.keepers).toEqual({ version: "2" });
      expect(second.get(`roles-${key}`).inputs).toEqual(get(`roles-${key}`).inputs);
    }
  });

  test("deletes its resources with the volume", () => {
    for (const key of [...KEYS, "kept", "drift"]) expect(get(`roles-${key}`).options.deletedWith).toBe(volume);
  });

  test("creates no superuser, and only the monitor as a member of another role", () => {
    for (const key of KEYS) {
      const {
        superuser,
        createRole,
        createDatabase,
        bypassRowLevelSecurity,
        replication,
        roles: of,
      } = get(`roles-${key}`).inputs;
      expect([superuser, createRole, createDatabase, bypassRowLevelSecurity, replication]).toEqual(
        Array.from({ length: 5 }),
      );
      expect(of).toEqual(key === "monitor" ? ["pg_monitor"] : undefined);
    }
  });

  test("creates the roles one after the other, then repairs their drift", () => {
    const waitsFor = (key: string) => namesIn(get(`roles-${key}`).options.dependsOn);
    const all = [...KEYS, "kept", "drift"];
    expect(all.flatMap(waitsFor)).toEqual(all.slice(0, -1).map((key) => `roles-${key}`));
    expect(namesIn(get("roles").options.dependsOn)).toEqual(["server-ready"]);
  });
});

test("the provider gets the password as a secret", () => {
  const { inputs } = get("roles-superuser");
  expect(inputs).toMatchObject({ host: "127.0.0.1", sslmode: "disable", username: "postgres" });
  expect(JSON.stringify(inputs.password)).toContain("superuser's");
  expect(inputs.password).toEqual(secretly("superuser's"));
});

test.each(["roles-kept", "roles-drift"])("%s gets the password as a secret", (name) => {
  expect(get(name).inputs).toMatchObject({ user: "postgres", password: secretly("superuser's") });
});
