import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { provider } from "../../components/import/import-provider.ts";
import type { NeonImport } from "../../components/import/neon-import.ts";
import { type Asked, awaited, namesIn, record, secretly, serverWith } from "./pulumi.ts";

const URL_OF_NEON = "postgresql://owner:npg_never_in_the_state@ep-x.neon.tech/neondb";

async function make() {
  vi.stubEnv("NEON_DATABASE_URL", URL_OF_NEON);
  let made: NeonImport | undefined;
  let volume: pulumi.Resource | undefined;
  const get = await record(async (opts) => {
    const { NeonImport } = await import("../../components/import/neon-import.ts");
    const server = serverWith({ database: "sectorwars_test", networkName: "sectorwars-test-network" });
    volume = server.volume;
    const roles = new pulumi.ComponentResource("test:Roles", "roles");
    made = new NeonImport(
      "import",
      {
        server,
        owner: { name: "sectorwars_owner", password: pulumi.secret("owner's") },
        denyList: ["mfa_*"],
        settings: {
          bootstrap: "neon",
          bootstrapChosen: true,
          newerImage: "postgres:18-alpine",
          jobs: 2,
          safetyCopy: undefined,
          selection: { importExclude: [], importSchemaOnly: false, importSubset: [], importMasks: [] },
        },
      },
      { ...opts, dependsOn: roles },
    );
    return [made.urn, made.summary];
  });
  vi.unstubAllEnvs();
  return { get, made: made as NeonImport, volume };
}

let get: (name: string) => Asked;
let made: NeonImport;
let volume: pulumi.Resource | undefined;
beforeAll(async () => {
  ({ get, made, volume } = await make());
});

describe("the component NeonImport", () => {
  test("passes everything that the provider reads, with the passwords as secrets", () => {
    const { __provider: _, ...inputs } = get("import-once").inputs;
    expect(inputs).toEqual({
      stack: "test",
      bootstrap: "neon",
      bootstrapChosen: true,
      database: "sectorwars_test",
      host: "127.0.0.1",
      port: 15500,
      user: "postgres",
      password: secretly("superuser's"),
      passwordVersion: 1,
      owner: "sectorwars_owner",
      ownerPassword: secretly("owner's"),
      denyList: ["mfa_*"],
      network: "sectorwars-test-network",
      alias: "database",
      container: "some-container",
      image: "sha256:1234",
      newerImage: "postgres:18-alpine",
      selection: { importExclude: [], importSchemaOnly: false, importSubset: [], importMasks: [] },
      jobs: 2,
      reportFolder: "reports/test",
    });
  });

  test("keeps the source's URL out of the state", () => {
    const state = JSON.stringify(get("import-once").inputs);
    expect(state).not.toContain("npg_never_in_the_state");
    expect(state).not.toContain("ep-x.neon.tech");
  });

  test("waits for the roles, and is deleted with the volume", () => {
    expect(namesIn(get("import").options.dependsOn)).toEqual(["roles"]);
    expect(get("import-once").options.deletedWith).toBe(volume);
  });

  test("returns the summary of the import", async () => {
    expect(await awaited(made.summary)).toEqual({ tables: 3 });
  });

  test("writes the report of dev to reports, and that of another stack to a subfolder", async () => {
    const { reportFolder } = await import("../../components/import/report/folder.ts");
    expect(reportFolder("dev")).toBe("reports");
    expect(reportFolder("ci")).toBe("reports/ci");
  });
});

describe("the import's provider", () => {
  const olds = { bootstrap: "sample", bootstrapChosen: true, jobs: 2, passwordVersion: 1 };

  test("does not import again if other settings change", async () => {
    const news = { ...olds, jobs: 4, image: "sha256:5678", newerImage: "x", port: 1, denyList: ["*"] };
    expect(await provider.diff?.("id", olds, news)).toMatchObject({ changes: false });
  });

  test("ignores a default bootstrap that changes with the environment", async () => {
    expect(await provider.diff?.("id", olds, { ...olds, bootstrap: "neon", bootstrapChosen: false })).toMatchObject({
      changes: false,
    });
  });

  test("records a new password, and keeps the data and its recorded source", async () => {
    const news = { ...olds, bootstrap: "neon", bootstrapChosen: false, passwordVersion: 2, password: "new" };
    expect(await provider.diff?.("id", olds, news)).toMatchObject({ changes: true, replaces: [] });
    const summary = { tables: 3 };
    expect(await provider.update?.("id", { ...olds, summary }, news)).toEqual({
      outs: { ...news, bootstrap: "sample", summary },
    });
  });

  test("refuses another bootstrap, and names three remedies", async () => {
    await expect(provider.diff?.("id", olds, { ...olds, bootstrap: "neon" })).rejects.toThrow(
      new Error(
        'bootstrap is now "neon", but this stack\'s data came from "sample", and existing data is never replaced. ' +
          "Set it back (pulumi config set bootstrap sample), reset the stack (pulumi destroy, then pulumi up), " +
          "or create another stack (pulumi stack init NAME).",
      ),
    );
  });

  test("refuses another selection, because a later mask would mask nothing", async () => {
    const whole = { importExclude: [], importSchemaOnly: false, importSubset: [], importMasks: [] };
    const masked = { ...whole, importMasks: ["players.email = email"] };
    await expect(provider.diff?.("id", olds, { ...olds, selection: masked })).rejects.toThrow(
      new Error(
        'importMasks is now ["players.email = email"], but this stack\'s data was imported with [], and existing data is ' +
          "never changed. Set it back, reset the stack (pulumi destroy, then pulumi up), or create another stack (pulumi stack init NAME).",
      ),
    );
    await expect(provider.diff?.("id", { ...olds, selection: masked }, { ...olds, selection: whole })).rejects.toThrow(
      "importMasks is now []",
    );
    // The state of an earlier version, or of a stack that started empty, records no selection.
    expect(await provider.diff?.("id", olds, { ...olds, selection: whole })).toMatchObject({ changes: false });
    const empty = { ...olds, bootstrap: "empty" };
    expect(await provider.diff?.("id", empty, { ...empty, selection: masked })).toMatchObject({ changes: false });
  });

  test("refuses pulumi import", async () => {
    await expect(provider.read?.("id")).rejects.toThrow(
      new Error("pulumi import does not support this resource; run pulumi up"),
    );
  });
});
