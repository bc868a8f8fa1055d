import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { libpqVariables } from "../../lib/pg-environment.ts";

const NEON = ["PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSSLMODE", "PGCHANNELBINDING"];

test("libpqVariables returns libpq's variables and no others", () => {
  const others = ["PGDATA", "PGADMIN_DEFAULT_EMAIL", "PG_VERSION", "PATH", "PGHOSTS"];
  const more = ["PGOPTIONS", "PGSERVICE", "PGAPPNAME", "PGDATESTYLE", "PGSSLROOTCERT", "PGSSLCERTMODE", "PGTZ"];
  const all = Object.fromEntries([...NEON, ...more, ...others].map((name) => [name, "x"]));
  expect(libpqVariables(all)).toEqual([...NEON, ...more]);
});

test("script/plugins starts the provider version of package.json", async () => {
  const script = await readFile("script/plugins/pulumi-resource-postgresql", "utf8");
  const { dependencies } = JSON.parse(await readFile("package.json", "utf8"));
  expect(/^version=(.*)$/m.exec(script)?.[1]).toBe(dependencies["@pulumi/postgresql"]);
});

test("modules that open connections remove libpq's variables, also for child processes", async () => {
  const script = `
    await import("./lib/postgres.ts");
    const { execFileSync } = await import("node:child_process");
    console.log(execFileSync("env", { encoding: "utf8" }).match(/^PG.*$/gm)?.join() ?? "none");`;
  const env = { ...process.env, ...Object.fromEntries([...NEON, "PGOPTIONS"].map((name) => [name, "x"])) };
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], { env });
  expect(stdout.trim()).toBe("none");
});
