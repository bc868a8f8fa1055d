/** What the backup container records about a database, so that a drill can compare a restored one with it. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { Lab, type Server } from "../support/lab.ts";

const SCRIPT = ["-v", "role=alone", "-f", "/usr/local/share/sectorwars/fingerprints.sql"];

let lab: Lab;
let server: Server;

beforeAll(async () => {
  lab = await Lab.open();
  server = await lab.startTarget();
  await server.sql("postgres", "CREATE ROLE keeper; CREATE ROLE reader");
  await server.sql("postgres", "CREATE DATABASE recorded OWNER keeper");
});
afterAll(() => lab?.close());

/** The recorded lines of a database, by object. */
async function recorded(): Promise<Map<string, string>> {
  const psql = ["psql", "-X", "-d", "recorded", ...SCRIPT];
  // Like the image's scripts, without the database's settings.
  const options = ["-e", "PGOPTIONS=-c search_path=pg_catalog,pg_temp"];
  const said = await docker(["exec", "-u", "postgres", ...options, server.container, ...psql]);
  const lines = said.split("\n").filter((line) => line.startsWith("recorded "));
  return new Map(lines.map((line) => [line.split("\t")[0] as string, line.split("\t").slice(1).join(" ")]));
}

const OBJECTS = "recorded pg_largeobject_metadata";

test("owners and privileges of large objects are recorded, including empty ones", async () => {
  expect([...(await recorded()).keys()].filter((name) => name.includes("largeobject"))).toEqual([]);
  await server.sql("recorded", "SELECT lo_create(5000); ALTER LARGE OBJECT 5000 OWNER TO keeper");
  const empty = (await recorded()).get(OBJECTS);
  expect(empty).toMatch(/^1 /);

  const seen = new Set([empty]);
  for (const change of [
    "ALTER LARGE OBJECT 5000 OWNER TO postgres",
    "GRANT SELECT ON LARGE OBJECT 5000 TO reader",
    "GRANT UPDATE ON LARGE OBJECT 5000 TO reader WITH GRANT OPTION",
    "GRANT SELECT ON LARGE OBJECT 5000 TO PUBLIC",
    "REVOKE ALL ON LARGE OBJECT 5000 FROM postgres, reader, PUBLIC",
    "SELECT lo_unlink(5000)",
  ]) {
    await server.sql("recorded", change);
    const now = (await recorded()).get(OBJECTS);
    expect(seen, change).not.toContain(now);
    seen.add(now);
  }
  expect(seen).toContain(undefined);
});

test("roles are recorded by name, and not by OIDs, which differ between servers", async () => {
  const make = async () => {
    await server.sql("postgres", 'CREATE ROLE "an, owner"; CREATE ROLE guest');
    await server.sql(
      "recorded",
      `SELECT lo_create(6000); ALTER LARGE OBJECT 6000 OWNER TO "an, owner"; GRANT SELECT ON LARGE OBJECT 6000 TO guest`,
    );
    return (await recorded()).get(OBJECTS);
  };
  const first = await make();
  await server.sql("recorded", 'SELECT lo_unlink(6000); DROP ROLE "an, owner", guest');
  const second = await make();
  expect(second).toMatch(/^1 /);
  expect(second).toBe(first);
  await server.sql("recorded", "ALTER ROLE guest RENAME TO visitor");
  expect((await recorded()).get(OBJECTS)).not.toBe(first);
});

test("a table is recorded whose index calls an SQL function that depends on the search path", async () => {
  await server.sql(
    "recorded",
    `CREATE SCHEMA helpers; SET search_path = helpers, public; CREATE FUNCTION helpers.brief(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT left(t, 3)';
     CREATE FUNCTION public.label(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT brief(t)';
     ALTER DATABASE recorded SET search_path = helpers, public;
     CREATE TABLE public.labels (id int, t text); INSERT INTO public.labels VALUES (1, 'one');
     CREATE INDEX ON public.labels (label(t)); ALTER TABLE public.labels OWNER TO keeper; ALTER SCHEMA helpers OWNER TO keeper`,
  );
  const before = (await recorded()).get("recorded public.labels");
  expect(before).toMatch(/^1 /);
  await server.sql("recorded", "SET search_path = helpers, public; UPDATE public.labels SET t = 'two'");
  expect((await recorded()).get("recorded public.labels")).not.toBe(before);
});
