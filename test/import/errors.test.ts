/** Errors name the reason and the remedy, and never the password. */
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseSourceUrl } from "../../components/import/source/source-url.ts";
import type { ImportSpec, Source } from "../../components/import/types.ts";
import { makeServerCertificate } from "../../lib/certificates.ts";
import { docker } from "../../lib/docker.ts";
import {
  type Attempt,
  atPhase,
  attempt,
  expectBadReport,
  expectComplete,
  expectNothingLeft,
  expectUntouched,
  expectUntouchedOrComplete,
} from "../support/attempt.ts";
import { images, Lab, type Server, type SourceServer } from "../support/lab.ts";
import { LARGE, SMALL } from "../support/small.ts";

let lab: Lab;
let source: SourceServer;
let target: Server;
/** An unknown name is looked up repeatedly for up to 60 s, at the same time as the other tests. */
let unknownHost: Promise<Attempt & { seconds: number }>;

beforeAll(async () => {
  lab = await Lab.open();
  let other: Server;
  [source, target, other] = await Promise.all([
    lab.startSource({ image: images().databaseBase }),
    lab.startTarget(),
    lab.startTarget(),
  ]);
  await source.makeDatabase("small", SMALL);
  await source.makeDatabase("large", LARGE);
  const known = source.source("small");
  const spec = await lab.newImport(
    { ...known, label: "ep-none.invalid/small", address: { ...known.address, host: "ep-none.invalid" } },
    other,
  );
  const begun = Date.now();
  unknownHost = attempt(spec).then((end) => ({ ...end, seconds: (Date.now() - begun) / 1000 }));
});
afterAll(() => lab?.close());

const withAddress = (changes: Partial<Source["address"]>): Source => {
  const known = source.source("small");
  return { ...known, address: { ...known.address, ...changes } };
};

/** Runs an import that must fail, and returns its message. */
async function failureOf(from: Source): Promise<string> {
  const spec = await lab.newImport(from, target);
  const { error, lines } = await attempt(spec);
  expect(error).not.toBe("");
  const said = [error, ...lines].join("\n");
  for (const password of [from.address.password, source.userPassword, target.admin.password]) {
    expect(said.includes(password)).toBe(false);
  }
  await expectUntouched(lab, target, spec);
  return error;
}

describe("the error for a source that cannot be read", () => {
  test("names a wrong password", async () => {
    expect(await failureOf(withAddress({ password: "entirely-wrong-secret" }))).toBe(
      `The source ${source.alias}/small cannot be read: password authentication failed for user "game_owner". ` +
        "The password is wrong. Copy NEON_DATABASE_URL again from the Neon console.",
    );
  });

  test("names a database that does not exist", async () => {
    expect(await failureOf(withAddress({ database: "smal" }))).toBe(
      `The source ${source.alias}/small cannot be read: database "smal" does not exist. ` +
        "There is no such database. Check the name at the end of NEON_DATABASE_URL.",
    );
  });

  test("is the same for an unknown user as for a wrong password", async () => {
    expect(await failureOf(withAddress({ user: "intruder" }))).toMatch(
      /cannot be read: password authentication failed for user "intruder"\. .*NEON_DATABASE_URL/,
    );
  });

  test("names NEON_ROOT_CERTIFICATES if the authority of the certificate is not trusted", async () => {
    const ca = tls.getCACertificates("bundled").join("\n");
    const error = await failureOf(withAddress({ tls: { ca, servername: "localhost", rejectUnauthorized: true } }));
    expect(error).toMatch(/^The source \S+\/small cannot be read: /);
    expect(error).toMatch(
      /\. This machine does not trust the authority that signed its certificate\. .* set NEON_ROOT_CERTIFICATES to /,
    );
  });

  test("names NEON_ROOT_CERTIFICATES if the authority has only the name of a trusted one", async () => {
    const impostor = await makeServerCertificate(["localhost"]);
    const error = await failureOf(
      withAddress({ tls: { ca: impostor.authority, servername: "localhost", rejectUnauthorized: true } }),
    );
    expect(error).toMatch(
      /\. This machine does not trust the authority that signed its certificate\. .* set NEON_ROOT_CERTIFICATES to /,
    );
  });

  test("says that the certificate is for another host", async () => {
    const other = { ca: source.certificate.authority, servername: "ep-other.neon.tech", rejectUnauthorized: true };
    const error = await failureOf(withAddress({ tls: other }));
    expect(error).toMatch(/^The source \S+\/small cannot be read: .*ep-other\.neon\.tech/);
    expect(error).toMatch(/\. Its certificate is for another host: this may not be the server you mean\.$/);
  });

  test("names an invalid certificate, even if the URL has sslmode=require", async () => {
    const { user, password, port } = source.source("small").address;
    const url = `postgresql://${user}:${password}@localhost:${port}/small?sslmode=require`;
    expect(await failureOf(parseSourceUrl(url))).toContain("does not trust the authority that signed its certificate");
    const byAddress = url.replace("localhost", "127.0.0.1");
    expect(await failureOf(parseSourceUrl(byAddress, source.certificate.authority))).toContain(
      "Its certificate is for another host",
    );
  });

  test("says that the server does not support TLS", async () => {
    const { address } = source.source("small");
    const plain = { ...address, host: target.admin.host, port: target.admin.port };
    const error = await failureOf({ ...source.source("small"), address: plain });
    expect(error).toMatch(/does not support SSL/);
    expect(error).toMatch(/NEON_DATABASE_URL/);
  });

  test("names the address that pg_dump cannot reach", async () => {
    const known = source.source("small");
    const error = await failureOf({ ...known, fromContainer: { ...known.fromContainer, host: "nowhere.invalid" } });
    expect(error).toMatch(/^The schema of nowhere\.invalid\/small could not be read: /);
    expect(error).toMatch(/could not translate host name "nowhere\.invalid"/);
  });

  test("names a table that the user cannot read", async () => {
    await source.makeDatabase("closed", SMALL);
    await source.sql("closed", "CREATE TABLE closed (id integer); REVOKE ALL ON closed FROM PUBLIC");
    expect(await failureOf(source.source("closed"))).toMatch(
      /- public\.closed: game_owner lacks SELECT\. .* \[privilege-missing\]/,
    );
  });

  test("names a table of which row-level security may hide rows", async () => {
    await source.makeDatabase("hidden", SMALL);
    await source.sql(
      "hidden",
      `ALTER TABLE visits OWNER TO lab_admin; GRANT SELECT ON visits TO game_owner;
       ALTER TABLE visits ENABLE ROW LEVEL SECURITY; CREATE POLICY visible ON visits USING (ok)`,
    );
    expect(await failureOf(source.source("hidden"))).toMatch(
      /- public\.visits: row-level security may hide rows .* BYPASSRLS.* \[rows-hidden\]/,
    );
  });
});

describe("the error for a source that cannot be imported", () => {
  test("names an extension that the target does not have", async () => {
    const folder = await source.value<string>("postgres", "SELECT setting FROM pg_config WHERE name = 'SHAREDIR'");
    const script = `cd "$0/extension" && echo "default_version = '1.2'" >sector_map.control && echo 'CREATE FUNCTION map() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;' >sector_map--1.2.sql`;
    await docker(["exec", source.container, "sh", "-c", script, folder]);
    await source.makeDatabase("extended", SMALL);
    await source.sql("extended", "CREATE EXTENSION sector_map");
    expect(await failureOf(source.source("extended"))).toBe(
      "The import cannot start, and nothing was changed:\n" +
        "  - extension sector_map 1.2: the source uses it, and the database image does not have it. Add it in " +
        "images/database/Dockerfile, or drop it on the source. [extension-missing]",
    );
  });

  test("names an encoding other than UTF8", async () => {
    await source.sql(
      "postgres",
      "CREATE DATABASE western OWNER game_owner ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    expect(await failureOf(source.source("western"))).toBe(
      "The import cannot start, and nothing was changed:\n" +
        "  - encoding LATIN1: only UTF8 can be imported. Convert the source's database to UTF8 first. [encoding-unsupported]",
    );
  });

  test("lists all problems", async () => {
    await source.sql(
      "postgres",
      "CREATE DATABASE twofold OWNER game_owner ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    await source.sql("twofold", "CREATE EXTENSION sector_map");
    expect((await failureOf(source.source("twofold"))).match(/^ {2}- /gm)).toHaveLength(2);
  });

  test("names an object that only a superuser can create", async () => {
    await source.makeDatabase("odd", SMALL);
    await source.sql(
      "odd",
      "CREATE AGGREGATE odd(bigint) (SFUNC = int8_avg_accum, STYPE = internal, FINALFUNC = numeric_poly_avg)",
    );
    expect(await failureOf(source.source("odd", "superuser"))).toMatch(
      /^The import cannot start, and nothing was changed:\n {2}- aggregate public\.odd\(bigint\): only a superuser can create it: .*\. Drop it on the source/,
    );
  });
});

/** Waits until a copy of the large table has begun and is not near its end. */
async function whenCopying(spec: ImportSpec): Promise<void> {
  const { database } = spec.source.address;
  for (let tries = 0; tries < 1000; tries += 1) {
    const [copying] = await source.sql<{ bytes: number }>(
      database,
      "SELECT bytes_processed::float8 AS bytes FROM pg_stat_progress_copy WHERE relid = 'crates'::regclass",
    );
    if ((copying?.bytes ?? 0) > 1_000_000) return;
    await sleep(5);
  }
  throw new Error("the copy was never seen at work");
}

describe("a server that goes away while rows are copied", () => {
  test("the source, killed: the error names it, the target is unchanged, and the next run converges", async () => {
    const spec = await lab.newImport(source.source("large"), target);
    let killed: Promise<void> | undefined;
    const { error } = await attempt(
      spec,
      atPhase("rows", async () => {
        killed = whenCopying(spec).then(() => source.kill());
      }),
    );
    await killed;
    await source.start();
    expect(error).toMatch(/source/i);
    expect(error).toContain(spec.source.label);
    expect(error).not.toContain(spec.source.address.password);
    await expectBadReport(spec, /source/i);
    expect(await expectUntouchedOrComplete(spec)).toBe("untouched");
    await expectNothingLeft(lab, target, spec);
    await expectComplete(lab, target, spec);
  });

  test("the target, restarted: the error names it, the database is unchanged, and the next run converges", async () => {
    const spec = await lab.newImport(source.source("large"), target);
    let restarted: Promise<void> | undefined;
    const { error } = await attempt(
      spec,
      atPhase("rows", async () => {
        restarted = whenCopying(spec).then(() => target.restart());
      }),
    );
    await restarted;
    expect(error).toMatch(/target/i);
    expect(error).not.toContain(spec.target.address.password);
    await expectBadReport(spec, /target/i);
    expect(await expectUntouchedOrComplete(spec)).toBe("untouched");
    await expectComplete(lab, target, spec);
  });

  test("the target, crashed: the database is unchanged, and the next run converges", async () => {
    const spec = await lab.newImport(source.source("large"), target);
    let crashed: Promise<void> | undefined;
    const { error } = await attempt(
      spec,
      atPhase("rows", async () => {
        crashed = whenCopying(spec).then(async () => {
          await target.kill();
          await target.start();
        });
      }),
    );
    await crashed;
    expect(error).not.toBe("");
    expect(await expectUntouchedOrComplete(spec)).toBe("untouched");
    await expectComplete(lab, target, spec);
  });
});

test("none of these failures blocks a later import", async () => {
  await expectComplete(lab, target, await lab.newImport(source.source("small"), target));
});

test("an unknown host is an error with a remedy within 90 s", async () => {
  const { error, seconds } = await unknownHost;
  expect(error).toMatch(/^The source ep-none\.invalid\/small cannot be read: getaddrinfo \w+ ep-none\.invalid\. /);
  expect(error).toMatch(/The host name does not exist\. Check it in NEON_DATABASE_URL, and check the network\.$/);
  expect(seconds).toBeLessThan(90);
});
