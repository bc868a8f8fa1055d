/** The hand-over of a server with TLS: the authority's file, the variables on this machine, and those of the services. */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parse } from "yaml";
import {
  hasAuthorityFile,
  machineTls,
  removeAuthorityFile,
  serviceTls,
  writeAuthorityFile,
} from "../../components/handover/authority.ts";
import { composeOverride } from "../../components/handover/compose.ts";
import { projectOf } from "../../components/handover/compose-project.ts";
import { endpointsAt } from "../../components/handover/database-names.ts";
import { planRedirects, type ServiceTarget } from "../../components/handover/redirection.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "handover-tls-"));
});
afterEach(() => rm(folder, { recursive: true }));

const place = (more = {}) => ({
  folder,
  authority: "the authority\n",
  target: "local" as const,
  dockerHost: undefined,
  ...more,
});
const login = (database: string) => ({ database, user: "app", password: "pw" });
const targetWith = (tls: ServiceTarget["tls"]): ServiceTarget => ({
  stack: "dev",
  service: "database",
  superuserServices: [],
  superuser: { user: "postgres", password: "superpw" },
  alias: "database",
  port: 5500,
  container: "the-database",
  network: "the-network",
  networkKey: "net",
  image: "the-image:15",
  driver: "",
  remoteUrl: undefined,
  remoteAddresses: [],
  formerDatabase: undefined,
  endpointsFor: endpointsAt(
    { main: login("game"), test: login("game_test"), further: {} },
    { alias: "database", port: 1 },
  ),
  pools: {},
  tls,
});
/** The override of a project with a service that uses the database, and one that does not. */
function overrideOf(tls: ServiceTarget["tls"]) {
  const project = projectOf({
    name: "p",
    services: {
      database: { image: "postgres:15" },
      game: { depends_on: { database: { condition: "service_started" } } },
      web: { image: "nginx" },
    },
    networks: {},
  });
  const target = targetWith(tls);
  return parse(composeOverride(project, planRedirects(project, target), target), { logLevel: "silent" });
}

test("the file is readable by everyone, in a folder that git ignores, and is removed with the hand-over", async () => {
  await writeAuthorityFile(place());
  const file = join(folder, ".sectorwars/ca.crt");
  expect(await readFile(file, "utf8")).toBe("the authority\n");
  expect((await stat(file)).mode & 0o777).toBe(0o644);
  expect(await readFile(join(folder, ".sectorwars/.gitignore"), "utf8")).toBe("*\n");
  expect(await hasAuthorityFile(place())).toBe(true);
  expect(await hasAuthorityFile(place({ authority: "another" }))).toBe(false);
  await removeAuthorityFile(place());
  await expect(stat(join(folder, ".sectorwars"))).rejects.toThrow("ENOENT");
});

test("files of the user in the same folder stay", async () => {
  await writeAuthorityFile(place());
  await writeFile(join(folder, ".sectorwars/mine"), "");
  await removeAuthorityFile(place());
  await stat(join(folder, ".sectorwars/mine"));
});

test("programs on this machine verify in full, by variables that every driver reads", () => {
  expect(machineTls(place())).toEqual({ PGSSLMODE: "verify-full", PGSSLROOTCERT: join(folder, ".sectorwars/ca.crt") });
});

test("without TLS, and with the remote database, there are no variables and no file", async () => {
  for (const none of [place({ authority: undefined }), place({ target: "neon" as const })]) {
    expect(machineTls(none)).toEqual({});
    expect(serviceTls(none)).toBeUndefined();
    await writeAuthorityFile(none);
    await expect(stat(join(folder, ".sectorwars"))).rejects.toThrow("ENOENT");
  }
});

test("services that use the database get the file at a fixed path, and others stay unchanged", () => {
  const override = overrideOf(serviceTls(place()));
  expect(override.services.game.environment).toMatchObject({
    DATABASE_URL: "postgresql://app:pw@database:5432/game",
    PGSSLMODE: "verify-full",
    PGSSLROOTCERT: "/etc/sectorwars/ca.crt",
  });
  expect(override.services.game.configs).toEqual([
    { source: "sectorwars-authority", target: "/etc/sectorwars/ca.crt" },
  ]);
  expect(override.configs).toEqual({ "sectorwars-authority": { file: join(folder, ".sectorwars/ca.crt") } });
  expect(override.services).not.toHaveProperty("web");
});

test("an engine on another machine, which has no such file, gets its content", () => {
  const override = overrideOf(serviceTls(place({ dockerHost: "ssh://me@box" })));
  expect(override.configs).toEqual({ "sectorwars-authority": { content: "the authority\n" } });
});

test("without TLS, the override has neither", () => {
  const override = overrideOf(undefined);
  expect(override).not.toHaveProperty("configs");
  expect(override.services.game).not.toHaveProperty("configs");
  expect(Object.keys(override.services.game.environment)).not.toContain("PGSSLMODE");
});
