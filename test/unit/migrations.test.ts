import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { MigrationsInputs } from "../../components/migrations/migrations.ts";
import { provider } from "../../components/migrations/migrations-provider.ts";
import { namesIn, record, secretly } from "./pulumi.ts";

let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), "sectorwars-test-")), "the game");
  await cp("test/application/services/gameserver", folder, { recursive: true });
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(join(folder, ".."), { recursive: true, force: true });
});

const make = (more: { image?: string; folder?: string; dockerHostIsSet?: boolean } = {}) =>
  record(async (opts) => {
    const { Migrations } = await import("../../components/migrations/migrations.ts");
    const volume = new pulumi.ComponentResource("test:Volume", "volume");
    const privileges = new pulumi.ComponentResource("test:Privileges", "privileges");
    const migrations = new Migrations(
      "migrations",
      {
        stack: "Test",
        database: "game",
        host: "127.0.0.1",
        port: 15500,
        superuser: "postgres",
        superuserPassword: pulumi.secret("superuserpw"),
        passwordVersion: 1,
        network: "some-network",
        alias: "database",
        owner: { name: "owner", password: pulumi.secret("ownerpw") },
        folder: more.folder ?? folder,
        image: more.image,
        pythonImage: "python:x",
        arguments: ["-x", "a=b"],
        revision: "head",
        allowDowngrade: false,
        dockerHost: undefined,
        dockerHostIsSet: more.dockerHostIsSet ?? false,
        engine: undefined,
        after: [privileges],
        volume,
      },
      opts,
    );
    return [migrations.ready.urn];
  });

describe("migrations", () => {
  test("run in an image of their own, as the owner, when the default privileges are set", async () => {
    const get = await make();
    expect(get("migrations-image").inputs).toMatchObject({
      name: "sectorwars-migrations-test:latest",
      build: { context: "images/migrations", buildArgs: { BASE: "python:x" } },
    });
    const { inputs, options } = get("migrated");
    expect(inputs).toMatchObject({
      image: "sha256:1234",
      folder,
      owner: "owner",
      ownerPassword: secretly("ownerpw"),
      password: secretly("superuserpw"),
      arguments: ["-x", "a=b"],
      revisions: [{ id: "0001first" }, { id: "0002ships" }],
    });
    expect(namesIn(options.dependsOn)).toEqual(["privileges"]);
    expect(namesIn(options.deletedWith)).toEqual(["volume"]);
  });

  test("run in an image that is built on the engine that the settings name", async () => {
    const near = await make();
    expect(near("migrations-image").inputs.build).not.toHaveProperty("useLegacyBuilder");
    const far = await make({ dockerHostIsSet: true });
    expect(far("migrations-image").inputs.build).toMatchObject({ useLegacyBuilder: true });
  });

  test("or in the application's, and then none is built", async () => {
    const get = await make({ image: "gameserver:latest" });
    expect(get("migrated").inputs.image).toBe("gameserver:latest");
    expect(() => get("migrations-image")).toThrow("no resource");
  });

  test("of a folder without a project are refused before anything is made", async () => {
    await expect(make({ folder: join(folder, "none") })).rejects.toThrow(`there is no folder ${folder}/none`);
    await expect(make({ folder: join(folder, "src") })).rejects.toThrow("has no alembic.ini");
  });
});

describe("a preview", () => {
  /** What is said, and whether there is something to do, when the files are otherwise than they were. */
  async function preview(olds: Partial<MigrationsInputs>, news: Partial<MigrationsInputs>) {
    const said: string[] = [];
    vi.spyOn(console, "log").mockImplementation((line: string) => void said.push(line));
    const inputs = {
      chain: "1",
      wantedRevision: "head",
      arguments: [],
      database: "game",
      // Told by its content: no engine is asked.
      image: "sha256:1",
      revisions: [
        { id: "a", down: [], title: "first" },
        { id: "b", down: ["a"], title: "" },
      ],
    };
    const former = { ...inputs, ...olds };
    const diff = await provider.diff?.("id", { ...former, revision: "a", fingerprint: "none" }, { ...inputs, ...news });
    return { said: said.join("\n"), changes: diff?.changes };
  }

  test("names the revisions in order, and those of a way back", async () => {
    expect(await preview({}, { chain: "2" })).toEqual({
      said: "migrations: 1 revision from a:\n  1. b",
      changes: true,
    });
    expect((await preview({}, { wantedRevision: "base" })).said).toBe("migrations: 1 downgrade from a:\n  1. a first");
  });

  test("says what it cannot tell: several heads, an unknown revision", async () => {
    const revisions = [
      { id: "a", down: [], title: "" },
      { id: "b", down: ["a"], title: "" },
      { id: "c", down: ["a"], title: "" },
    ];
    expect((await preview({}, { revisions })).said).toBe(
      "migrations: the files do not tell which revisions would run: the chain's heads are b, c",
    );
    expect((await preview({}, { wantedRevision: "z" })).said).toContain("z is not the name");
    expect((await preview({}, { revisions: revisions.slice(1, 2) })).said).toContain(
      "a, where the database stands, is no revision of the chain",
    );
  });
});
