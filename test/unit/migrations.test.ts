import { createHash } from "node:crypto";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { SERVICE_IMAGE } from "../../components/migrations/application.ts";
import type { MigrationsInputs } from "../../components/migrations/migrations.ts";
import { provider } from "../../components/migrations/migrations-provider.ts";
import { findCompose } from "../../lib/docker-compose.ts";
import { namesIn, record, secretly, serverWith } from "./pulumi.ts";

let folder: string;
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), "sectorwars-test-")), "the game");
  await cp("test/application/services/gameserver", folder, { recursive: true });
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(join(folder, ".."), { recursive: true, force: true });
});

interface More {
  image?: string;
  folder?: string;
  application?: string;
  service?: string;
  dockerHostIsSet?: boolean;
}

const make = (more: More = {}) =>
  record(async (opts) => {
    const { Migrations } = await import("../../components/migrations/migrations.ts");
    const privileges = new pulumi.ComponentResource("test:Privileges", "privileges");
    const migrations = new Migrations(
      "migrations",
      {
        server: serverWith({
          stack: "Test",
          superuserPassword: pulumi.secret("superuserpw"),
          dockerHostIsSet: more.dockerHostIsSet ?? false,
        }),
        owner: { name: "owner", password: pulumi.secret("ownerpw") },
        settings: {
          folder: more.folder ?? folder,
          image: more.image ?? "auto",
          pythonImage: "python:x",
          application: more.application,
          envFile: ".env",
          service: more.service,
          environment: ["GREETING=hello"],
          arguments: ["-x", "a=b"],
          revision: "head",
          allowDowngrade: false,
        },
      },
      { ...opts, dependsOn: privileges },
    );
    return [migrations.urn, migrations.revision];
  });

describe("the component Migrations", () => {
  test("runs in its own image, as the owner, after the default privileges are set", async () => {
    const get = await make();
    expect(get("migrations-image").inputs).toMatchObject({
      name: "sectorwars-migrations-test:latest",
      build: { context: "images/migrations", buildArgs: { BASE: "python:x" } },
    });
    const { inputs, options } = get("migrations-run");
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
    // The image is built meanwhile.
    expect(namesIn(get("migrations").options.dependsOn)).toEqual([]);
  });

  test("builds the image without BuildKit if the settings name an engine", async () => {
    const near = await make();
    expect(near("migrations-image").inputs.build).not.toHaveProperty("useLegacyBuilder");
    const far = await make({ dockerHostIsSet: true });
    expect(far("migrations-image").inputs.build).toMatchObject({ useLegacyBuilder: true });
  });

  test("runs in the configured image, and builds no other", async () => {
    const get = await make({ image: "gameserver:latest" });
    expect(get("migrations-run").inputs.image).toBe("gameserver:latest");
    expect(() => get("migrations-image")).toThrow("no resource");
  });

  test.runIf(findCompose() !== undefined)(
    "runs in the image of the service that builds the project, builds no other, and refuses an unknown service",
    async () => {
      const application = join(folder, "../whole");
      await cp("test/application", application, { recursive: true });
      const project = join(application, "services/gameserver");
      const get = await make({ folder: project, application });
      expect(get("migrations-run").inputs).toMatchObject({
        image: SERVICE_IMAGE,
        application: { alembic: project, folder: application, envFile: ".env" },
        environment: secretly(["GREETING=hello"]),
      });
      expect(() => get("migrations-image")).toThrow("no resource");
      expect((await make({ folder: project, application, image: "generic" }))("migrations-run").inputs.image).toBe(
        "sha256:1234",
      );
      await expect(make({ folder: project, application, service: "none" })).rejects.toThrow(
        'alembicService is "none", but the application\'s Compose files have no such service. Their services are admin-ui',
      );
    },
  );

  test("refuses a folder without an Alembic project", async () => {
    await expect(make({ folder: join(folder, "none") })).rejects.toThrow(`the folder ${folder}/none does not exist`);
    await expect(make({ folder: join(folder, "src") })).rejects.toThrow("has no alembic.ini");
  });
});

test("a change of the service's image or of the environment does not run migrations again", async () => {
  const inputs = {
    chain: "1",
    wantedRevision: "head",
    arguments: [],
    database: "game",
    revisions: [],
    image: SERVICE_IMAGE,
  };
  const same = {
    ...inputs,
    environment: ["A=1"],
    folder: "/game",
    host: "h",
    port: 1,
    passwordVersion: 1,
    network: "n",
  };
  const first = await provider.diff?.("id", { ...same, revision: "a", fingerprint: "none" }, same);
  expect(first?.changes).toBe(true);
  const reasons = JSON.stringify(["1", "head", [], "game", SERVICE_IMAGE]);
  const fingerprint = createHash("sha256").update(reasons).digest("hex").slice(0, 16);
  const again = await provider.diff?.("id", { ...same, revision: "a", fingerprint }, { ...same, environment: ["A=2"] });
  expect(again?.changes).toBe(false);
});

describe("the preview of migrations", () => {
  /** The printed lines, and whether there are changes, for former and new inputs. */
  async function preview(olds: Partial<MigrationsInputs>, news: Partial<MigrationsInputs>) {
    const said: string[] = [];
    vi.spyOn(console, "log").mockImplementation((line: string) => void said.push(line));
    const inputs = {
      chain: "1",
      wantedRevision: "head",
      arguments: [],
      database: "game",
      // A digest, so that no engine is asked.
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

  test("names the revisions in order, also those of a downgrade", async () => {
    expect(await preview({}, { chain: "2" })).toEqual({
      said: "migrations: 1 revision from a:\n  1. b",
      changes: true,
    });
    expect((await preview({}, { wantedRevision: "base" })).said).toBe("migrations: 1 downgrade from a:\n  1. a first");
  });

  test("says that the revisions are unclear if there are several heads or an unknown revision", async () => {
    const revisions = [
      { id: "a", down: [], title: "" },
      { id: "b", down: ["a"], title: "" },
      { id: "c", down: ["a"], title: "" },
    ];
    expect((await preview({}, { revisions })).said).toBe(
      "migrations: the files do not determine which revisions would run: the chain has several heads: b, c",
    );
    expect((await preview({}, { wantedRevision: "z" })).said).toContain("z is not the id");
    expect((await preview({}, { revisions: revisions.slice(1, 2) })).said).toContain(
      "the chain does not contain a, the database's revision",
    );
  });
});
