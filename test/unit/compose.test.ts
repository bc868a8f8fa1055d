import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { type ComposeTarget, composeOverride, parseCompose } from "../../components/handover/compose.ts";

const TARGET: ComposeTarget = {
  stack: "dev",
  network: "sectorwars-network",
  alias: "database",
  networkKey: "sectorwars-network",
  image: "sectorwars-database:15",
  service: "database",
  superuserServices: ["region-manager"],
  databases: ["nexus"],
  isLocal: true,
};
const override = (source: string, more: Partial<ComposeTarget> = {}) =>
  composeOverride([source], ["compose.yaml"], { ...TARGET, ...more });
/** The override as data; Compose's own tags are of no matter then. */
const asData = (text: string) => parse(text, { logLevel: "silent" });

describe("the override", () => {
  const game = readFileSync("test/application/docker-compose.yml", "utf8");

  test("of the game's file takes the database away, and leaves everything else to it", () => {
    const text = override(game);
    expect(text).toContain('"database": !reset null');
    expect(text).toContain('  "sectorwars-network": !override\n    external: true\n    name: "sectorwars-network"');
    const { services } = asData(text);
    expect(Object.keys(services)).toEqual(["database", "database-ready", "gameserver", "region-manager"]);
    expect(services.gameserver.depends_on).toEqual({
      "database-ready": { condition: "service_completed_successfully" },
    });
    expect(services["region-manager"].depends_on).toEqual({
      gameserver: { condition: "service_healthy" },
      "database-ready": { condition: "service_completed_successfully" },
    });
    expect(services.gameserver.environment).toMatchObject({
      DATABASE_URL: expect.stringMatching(/^\$\{DATABASE_URL_IN_NETWORK\}$/),
    });
    expect(services.gameserver.environment.DATABASE_URL_NEXUS).toMatch(/^\$\{DATABASE_URL_NEXUS_IN_NETWORK\}$/);
    expect(services.gameserver.environment).not.toHaveProperty("DB_SUPERUSER_PASSWORD");
    expect(services["region-manager"].environment).toMatchObject({
      DB_HOST: "database",
      DB_PORT: "5432",
      DB_SUPERUSER_PASSWORD: expect.stringMatching(/^\$\{DB_SUPERUSER_PASSWORD\}$/),
    });
  });

  test("holds no secret: passwords come from the .env file", () => {
    expect(override(game)).not.toContain("not-for-production");
  });

  test("for the remote database waits for nothing, and leaves the superuser's variables alone", () => {
    const { services } = asData(override(game, { isLocal: false }));
    expect(Object.keys(services)).toEqual(["database", "gameserver", "region-manager"]);
    expect(services.gameserver.depends_on).toBe("null");
    expect(services["region-manager"].depends_on).toEqual({ gameserver: { condition: "service_healthy" } });
    expect(services["region-manager"].environment).not.toHaveProperty("DB_HOST");
  });

  test("knows short dependencies, and puts a service without networks on both", () => {
    const { services } = asData(
      override("services: {db: {}, api: {depends_on: [db, cache]}, cache: {}}", { service: "db" }),
    );
    expect(services.api.depends_on).toEqual({
      cache: { condition: "service_started" },
      "database-ready": { condition: "service_completed_successfully" },
    });
    expect(services.api.networks).toEqual({ default: {}, "sectorwars-network": {} });
    expect(services.cache).toBeUndefined();
  });

  test("adds up the files that docker compose adds up", () => {
    const text = composeOverride(
      ["services: {database: {}, api: {depends_on: [database]}}", "services: {api: {depends_on: [cache]}, cache: {}}"],
      ["a", "b"],
      TARGET,
    );
    expect(Object.keys(asData(text).services.api.depends_on)).toEqual(["cache", "database-ready"]);
  });

  test.each([
    ["services: {web: {}}", "compose.yaml has no service that uses a database"],
    ["version: '3'", "compose.yaml has no services"],
    ["just text", "compose.yaml is no Compose file"],
    ["services: {a: [}", "compose.yaml is no YAML"],
  ])("%j is refused", (source, message) => {
    expect(() => override(source)).toThrow(message);
  });

  test("merged YAML is understood", () => {
    const { services } = parseCompose("x: &x {depends_on: [database]}\nservices:\n  a:\n    <<: *x\n", "f");
    expect(services.a).toEqual({ depends_on: ["database"] });
  });
});
