/** The image's scripts connect to the server through one function, with settings that a database's owner cannot change. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const IMAGE = "images/database";
const LISTS = [`${IMAGE}/session-settings`, `${IMAGE}/superuser-settings`];

/** Programs that open sessions with a server. */
const PROGRAMS = [
  ...["psql", "pg_amcheck", "pg_dump", "pg_dumpall", "pg_restore", "pg_isready", "pgbench", "pgbackrest"],
  ...["createdb", "dropdb", "createuser", "dropuser", "vacuumdb", "reindexdb", "clusterdb", "vacuumlo", "oid2name"],
  ...["pg_basebackup", "pg_receivewal", "pg_recvlogical", "pg_rewind"],
].join("|");

/** Lines of a script that run one of the programs, without comments. */
function calls(script: string): string[] {
  const code = script.split("\n").filter((line) => !/^\s*#/.test(line));
  return code.filter((line) => new RegExp(`(?<![\\w/.*-])(${PROGRAMS})(?=[\\s"';)]|$)`).test(line));
}

const scripts = readdirSync(IMAGE, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".sh"))
  .map((entry) => join(entry.parentPath, entry.name));

const options = (version: string) =>
  execFileSync("awk", ["-v", `version=${version}`, "-f", `${IMAGE}/backup/session.awk`, ...LISTS], {
    encoding: "utf8",
  });

describe("the database sessions of the image", () => {
  test("are opened by one shell function, except replication sessions, which run no SQL", () => {
    expect(scripts).toContain(`${IMAGE}/backup/session.sh`);
    for (const script of scripts) {
      const others = calls(readFileSync(script, "utf8")).filter(
        (line) =>
          !/\bsession (psql|pg_amcheck|pgbackrest) |\bpsql .* replication=true"|\bas_postgres pg_basebackup /.test(
            line,
          ),
      );
      expect(others, script).toEqual([]);
    }
    const all = scripts.flatMap((script) => calls(readFileSync(script, "utf8")));
    expect(all.length).toBeGreaterThanOrEqual(3);
    expect(calls("\tas_postgres psql -c x\n")).toHaveLength(1);
    expect(calls('	said=$(pg_dump "$x")\n')).toHaveLength(1);
  });

  test("do not reconnect within psql scripts", () => {
    const texts = readdirSync(join(IMAGE, "backup")).filter((name) => name.endsWith(".sql"));
    expect(texts).toContain("fingerprints.sql");
    for (const name of texts) {
      expect(readFileSync(join(IMAGE, "backup", name), "utf8"), name).not.toMatch(/\\(c|connect)\b/);
    }
  });

  test("pin every setting of the two lists, in libpq's format for options", () => {
    const lines = LISTS.flatMap((list) => readFileSync(list, "utf8").split("\n")).filter((line) => /^[^#]/.test(line));
    const expected = lines.map((line) => {
      const [, name, value = ""] = /^([\w.]+)(?: \([\d.]+\))? =(?: (.*))?$/.exec(line) ?? [];
      expect(name, line).toBeDefined();
      return `-c ${name}=${value.replaceAll(/[\s\\]/g, "\\$&")}`;
    });
    expect(expected.length).toBeGreaterThan(50);
    expect(new Set(expected.map((option) => option.split("=")[0])).size).toBe(expected.length);
    expect(options("15.18")).toBe(expected.join(" "));
    expect(options("15.18")).toMatch(/^-c search_path=pg_catalog,\\ pg_temp -c role=none /);
  });

  test.each([
    ["15.7", false],
    ["15.8", true],
    ["15.10", true],
    ["17.0", true],
    ["14.99", false],
  ])("on a server of version %s pin restrict_nonsystem_relation_kind: %s", (version, known) => {
    expect(options(version).includes("restrict_nonsystem_relation_kind=view,\\ foreign-table")).toBe(known);
    expect(options(version)).toContain("-c session_replication_role=origin");
  });
});
