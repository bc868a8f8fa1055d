import { expect, test } from "vitest";
import {
  copySettings,
  keptSettings,
  leftOutSettings,
  nameOf,
  type Setting,
} from "../../components/import/schema/database-settings.ts";

const setting = (name: string, more: Partial<Setting> = {}): Setting => ({
  role: null,
  everywhere: false,
  name,
  value: "s3cret",
  ...more,
});

test("settings that change the meaning of statements are copied, and those of a server are left out by name", () => {
  const kept = ["search_path", "TimeZone", "DateStyle", "app.tenant", "pg_trgm.similarity_threshold"];
  const left = [
    "work_mem",
    "statement_timeout",
    "default_transaction_read_only",
    "neon.timeline_id",
    "auto_explain.log",
  ];
  const settings = [...kept, ...left].map((name) => setting(name));
  expect(keptSettings(settings).map(({ name }) => name)).toEqual(kept);
  expect(leftOutSettings(settings).map(({ what }) => what)).toEqual(
    left.map((name) => `setting ${name} of the database`),
  );
});

test("a role's settings are copied if this stack has the role and they apply to this database alone", () => {
  const own = setting("search_path", { role: "sectorwars_app" });
  const others = setting("search_path", { role: "game_owner" });
  const everywhere = setting("search_path", { role: "sectorwars_app", everywhere: true });
  expect(keptSettings([own, others, everywhere])).toEqual([own]);
  expect([own, others, everywhere].map(nameOf)).toEqual([
    "setting search_path of the role sectorwars_app in the database",
    "setting search_path of the role game_owner in the database",
    "setting search_path of the role sectorwars_app",
  ]);
  expect(leftOutSettings([others])[0]?.why).toMatch(/ALTER DATABASE \.\.\. SET/);
});

test("no message contains the value of a setting", () => {
  expect(JSON.stringify(leftOutSettings([setting("work_mem"), setting("a.b", { role: "x" })]))).not.toContain("s3cret");
});

test("copySettings opens no session if there is nothing to copy", async () => {
  const nowhere = { host: "127.0.0.1", port: 1, user: "none", password: "", database: "none" };
  expect(await copySettings([setting("work_mem")], nowhere)).toEqual({ taken: [], remarks: [] });
});
