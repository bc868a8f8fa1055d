import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkCollations } from "../../components/import/preflight/collations.ts";
import { unreadable } from "../../components/import/preflight/connection.ts";
import { estimate, humanSeconds } from "../../components/import/preflight/estimates.ts";
import { checkFeatures } from "../../components/import/preflight/features.ts";
import {
  CODES,
  type Code,
  finding,
  findings,
  grouped,
  inOneLine,
  layOut,
  PreflightError,
  remarksOf,
  someOf,
  verdictOf,
  warningLines,
} from "../../components/import/preflight/findings.ts";
import {
  checkContents,
  checkPrivileges,
  checkServer,
  checkVersion,
} from "../../components/import/preflight/source-checks.ts";
import type { Relation, ServerInfo, SourceContents } from "../../components/import/preflight/source-info.ts";
import {
  checkCopyRoom,
  checkExtensions,
  checkObjects,
  checkRoom,
  checkTarget,
  compareVersions,
} from "../../components/import/preflight/target-checks.ts";
import { freeForFiles, parseDf, type TargetInfo } from "../../components/import/preflight/target-info.ts";
import { SUPERUSER_KINDS } from "../../components/import/schema/superuser-kinds.ts";
import type { Catalog } from "../../components/import/types.ts";
import { makeTable } from "./table.ts";

const GIB = 1024 ** 3;

const ABOUT: ServerInfo = {
  major: 15,
  version: "15.14",
  encoding: "UTF8",
  collation: "libc C.UTF-8",
  role: "game_owner",
  isReplica: false,
  bytes: GIB,
  connectionsLeft: 90,
  prepared: [],
};

const LOOK: SourceContents = {
  extensions: [],
  relations: [],
  schemas: [],
  policyRoles: [],
  superuserObjects: [],
  unreadableLargeObjects: [],
  extensionTables: [],
  invalidIndexes: [],
  textIndexes: [],
  textBounds: [],
  textComputed: [],
  collations: [],
  databaseCollation: [{ made: "2.36", now: "2.36" }],
  largeObjects: [],
  features: [],
  calls: [],
  bodies: [],
};

const TARGET: TargetInfo = {
  marker: undefined,
  relations: [],
  version: "15.14",
  collation: "ICU en-US",
  collations: new Set(["C", "en-x-icu"]),
  locales: new Set(["c", "c.utf8"]),
  extensions: new Map([["pgcrypto", ["1.3", "1.2"]]]),
  roles: new Set(["postgres", "sectorwars_owner"]),
  connectionsLeft: 90,
  walBytes: GIB,
  sideDatabases: [],
  lockHeld: false,
};

const RELATION: Relation = {
  name: "public.ships",
  kind: "r",
  unlogged: false,
  isPartition: false,
  inherits: false,
  keyed: true,
  hidden: false,
  forced: false,
  readable: true,
  generated: 0,
  identity: 0,
};

const CATALOG: Catalog = {
  version: "15.14",
  majorVersion: 15,
  encoding: "UTF8",
  collation: "libc C.UTF-8",
  tables: [],
  sequences: [],
  extensions: [],
  largeObjects: 0,
  skipped: [],
  alembicRevision: undefined,
};

const codes = (found: readonly { code: Code }[]) => found.map(({ code }) => code);

describe("preflight findings", () => {
  test("have a level that follows from the code", () => {
    expect(finding("table-locked", "t", "w").level).toBe("blocker");
    expect(finding("foreign-table", "t", "w").level).toBe("warning");
    expect(finding("alembic-revision", "t", "w").level).toBe("fact");
  });

  test("are exactly those that docs/import.md explains", () => {
    const documented = [
      ...readFileSync("docs/import.md", "utf8").matchAll(/^\| `([a-z-]+)` +\| (blocker|warning|fact) /gm),
    ];
    expect(Object.fromEntries(documented.map(([, code, level]) => [code, level]))).toEqual(CODES);
  });

  test("about superuser objects are exactly the kinds in docs/import.md, with the same decisions", () => {
    const [, section = ""] = readFileSync("docs/import.md", "utf8").split(
      "\n## Objects that only a superuser can create\n",
    );
    const rows = [...(section.split("\n## ")[0] ?? "").matchAll(/^\| (.+?) +\| (blocker|left out) +\| (.+?) +\|$/gm)];
    expect(rows.map(([, ...cells]) => cells)).toEqual(
      SUPERUSER_KINDS.map(({ kind, decision, what, remedy }) => [kind, decision, remedy ?? what]),
    );
    expect(SUPERUSER_KINDS.filter(({ decision, remedy }) => decision === "blocker" && !remedy)).toEqual([]);
  });

  test("with the same message are one line, which names all of their objects", () => {
    const many = findings(
      "no-primary-key",
      Array.from({ length: 40 }, (_, i) => `t${i}`),
      "has none",
    );
    expect(grouped(many).map(inOneLine)).toEqual([
      `${Array.from({ length: 40 }, (_, i) => `t${i}`).join(", ")}: has none [no-primary-key]`,
    ]);
  });

  test("with different messages of the same code stay separate", () => {
    const two = [finding("role-missing", "a", "on x", "r"), finding("role-missing", "b", "on y", "r")];
    expect(grouped(two)).toHaveLength(2);
  });

  test("are all kept by grouping, and blockers come first", () => {
    const codesOf = Object.keys(CODES) as Code[];
    const one = fc.record({ code: fc.constantFrom(...codesOf), subject: fc.string(), what: fc.constantFrom("a", "b") });
    fc.assert(
      fc.property(fc.array(one), (list) => {
        const found = list.map(({ code, subject, what }) => finding(code, subject, what));
        const groups = grouped(found);
        const back = groups.flatMap(({ subjects, ...rest }) => subjects.map((subject) => ({ ...rest, subject })));
        const key = (value: object) => JSON.stringify(Object.entries(value).sort());
        expect(back.map(key).sort()).toEqual(found.map(key).sort());
        const levels = groups.map(({ level }) => ["blocker", "warning", "fact"].indexOf(level));
        expect(levels).toEqual([...levels].sort((a, b) => a - b));
      }),
    );
  });

  test.each([
    [["a", "b"], "a, b"],
    [["a", "b", "c", "d", "e", "f"], "a, b, c, d, e, f"],
    [["a", "b", "c", "d", "e", "f", "g"], "a, b, c, d, e and 2 more (the report lists all)"],
  ])("for the objects %j name %j", (names, told) => expect(someOf(names, "the report")).toBe(told));

  test("are printed with blockers first and a verdict at the end", () => {
    const text = layOut([
      finding("disk-room", "the disk", "has room"),
      finding("role-missing", "role x", "is not there", "make it"),
      finding("alembic-empty", "t", "is empty", "stamp it"),
    ]);
    expect(text).toBe(
      [
        "Blockers",
        "  • role x: is not there [role-missing]",
        "    → make it.",
        "",
        "Warnings",
        "  • t: is empty [alembic-empty]",
        "    → stamp it.",
        "",
        "Information",
        "  • the disk: has room [disk-room]",
        "",
        "The import cannot start: 1 blocker. 1 warning.",
      ].join("\n"),
    );
  });

  test("without a blocker have the verdict that the import can start", () => {
    expect(verdictOf([])).toBe("The import can start.");
    expect(verdictOf(findings("foreign-table", ["a", "b"], "w"))).toBe("The import can start. 2 warnings.");
    expect(verdictOf([finding("imported-before", "game", "w")])).toMatch(
      /^There are no blockers, but .* imported before/,
    );
  });

  test("in the report are only warnings and changes of the connection", () => {
    const found = [
      finding("connection-changed", "h/d", "pooled host replaced"),
      finding("disk-room", "disk", "has room"),
      finding("foreign-table", "3 tables", "are not copied", "Move them"),
    ];
    expect(remarksOf(found)).toEqual(["pooled host replaced", "3 tables: are not copied. Move them. [foreign-table]"]);
    expect(warningLines(found)).toEqual(["warning, 3 tables: are not copied [foreign-table]"]);
  });

  test("that block an import are one error that names all of them", () => {
    const found = [
      ...findings("extension-missing", ["extension a 1", "extension b 2"], "is missing", "Add it"),
      finding("disk-room", "disk", "has room"),
      finding("table-locked", "t", "is locked", "Wait"),
    ];
    const error = new PreflightError(found);
    expect(error.message).toBe(
      "The import cannot start, and nothing was changed:\n" +
        "  - extension a 1, extension b 2: is missing. Add it. [extension-missing]\n" +
        "  - t: is locked. Wait. [table-locked]",
    );
    expect(error.findings).toBe(found);
  });
});

describe("a source that cannot be read", () => {
  test.each([
    ["28P01", "password-wrong", "The password is wrong. Copy NEON_DATABASE_URL again from the Neon console."],
    ["3D000", "database-missing", "There is no such database. Check the name at the end of NEON_DATABASE_URL."],
    [
      "ENOTFOUND",
      "host-unknown",
      "The host name does not exist. Check it in NEON_DATABASE_URL, and check the network.",
    ],
    ["ECONNREFUSED", "port-closed", "No server listens there. Check host and port in NEON_DATABASE_URL."],
    [
      "ERR_TLS_CERT_ALTNAME_INVALID",
      "certificate-other-host",
      "Its certificate is for another host: this may not be the server you mean.",
    ],
    ["XX000", "source-unreadable", "Check NEON_DATABASE_URL and the network."],
  ])("with the error %s yields the finding %s", (code, expected, remedy) => {
    const cause = Object.assign(new Error("what it said"), { code });
    const found = unreadable("ep-x.neon.tech/neondb", cause);
    expect(found.code).toBe(expected);
    const error = new PreflightError([found], cause);
    expect(error.message).toBe(`The source ep-x.neon.tech/neondb cannot be read: what it said. ${remedy}`);
    expect(error.cause).toBe(cause);
  });

  test("yields a finding by its message if there is no code", () => {
    expect(unreadable("h/d", new Error("timeout expired")).code).toBe("host-silent");
    expect(unreadable("h/d", new Error("The server does not support SSL connections")).code).toBe("tls-missing");
    expect(unreadable("h/d", new Error("the server does not offer channel binding (X)")).code).toBe(
      "channel-binding-missing",
    );
    const proxy = (message: string) => unreadable("h/d", Object.assign(new Error(message), { code: "XX000" }));
    expect(proxy("The requested endpoint could not be found").remedy).toMatch(/from the Neon console/);
    expect(proxy("Your account or project has exceeded the compute time quota").code).toBe("login-refused");
    expect(proxy("This IP address 1.2.3.4 is not allowed to connect").remedy).toMatch(/IP Allow list/);
  });

  test("is reported in one error with the target's blockers", () => {
    const { message } = new PreflightError([
      finding("target-not-empty", "the database x", "is not empty", "Reset it"),
      unreadable("h/d", Object.assign(new Error("no"), { code: "28P01" })),
    ]);
    expect(message).toMatch(
      /- the database x: is not empty.*\n {2}- h\/d: cannot be read: no\. The password is wrong\./,
    );
  });
});

describe("the check of the source's server", () => {
  test.each([
    [11, false],
    [12, true],
    [18, true],
    [19, false],
  ])("accepts version %i: %s", (major, fine) => {
    expect(checkVersion(major, `${major}.1`) === undefined).toBe(fine);
  });

  test("finds nothing wrong with a suitable server", () => expect(checkServer(ABOUT, [], 2)).toEqual([]));

  test("reports all problems at once", () => {
    const about: ServerInfo = {
      ...ABOUT,
      major: 17,
      encoding: "LATIN1",
      connectionsLeft: 2,
      isReplica: true,
      prepared: [{ gid: "g", age: "0 days 01:00:00" }],
    };
    const locks = [{ table: "public.ships", pid: 4711, age: "00:01:00", application: "psql" }];
    expect(codes(checkServer(about, locks, 2))).toEqual([
      "version-newer",
      "encoding-unsupported",
      "connections-exhausted",
      "table-locked",
      "prepared-transactions",
      "source-is-replica",
    ]);
  });

  test("requires one connection for each table at a time, and one more", () => {
    expect(codes(checkServer({ ...ABOUT, connectionsLeft: 3 }, [], 2))).toEqual([]);
    expect(codes(checkServer({ ...ABOUT, connectionsLeft: 3 }, [], 3))).toEqual(["connections-exhausted"]);
  });

  test("names the process or prepared transaction that holds a lock", () => {
    const locks = [
      { table: "t", pid: 7, age: null, application: null },
      { table: "t", pid: null, age: null, application: null },
    ];
    expect(checkServer(ABOUT, locks, 2).map(({ what }) => what)).toEqual([
      "is locked against readers (ACCESS EXCLUSIVE) by process 7, a prepared transaction",
    ]);
  });
});

describe("the check of the role's privileges", () => {
  test("finds nothing if the role can read everything", () => {
    expect(checkPrivileges({ ...LOOK, relations: [RELATION] }, "me")).toEqual([]);
  });

  test("names unreadable schemas, tables and sequences, and tables with hidden rows", () => {
    const relations: Relation[] = [
      { ...RELATION, name: "a", readable: false },
      { ...RELATION, name: "s", kind: "S", readable: false },
      { ...RELATION, name: "h", hidden: true },
      { ...RELATION, name: "f", hidden: true, forced: true },
      // Every role can read definitions.
      { ...RELATION, name: "v", kind: "v", readable: false },
      { ...RELATION, name: "x", kind: "f", readable: false },
    ];
    const found = checkPrivileges({ ...LOOK, schemas: ["closed"], relations }, "me");
    expect(found.map(({ code, subject }) => `${code} ${subject}`)).toEqual([
      "privilege-missing schema closed",
      "privilege-missing a",
      "privilege-missing sequence s",
      "rows-hidden h",
      "rows-hidden f",
    ]);
  });
});

describe("the check of the source's contents", () => {
  test.each([
    [undefined, "alembic-empty"],
    ["a1, b2", "alembic-several"],
    ["a1", "alembic-revision"],
  ])("with Alembic's revision %s yields %s", (alembicRevision, code) => {
    const tables = [makeTable("alembic_version")];
    expect(codes(checkContents(LOOK, { ...CATALOG, tables, alembicRevision }))).toEqual([code]);
  });

  test("yields no finding about Alembic without its table", () => expect(checkContents(LOOK, CATALOG)).toEqual([]));

  test("reports what is left out, and nothing twice", () => {
    const skipped = [
      { what: "schema neon", why: "Neon's own" },
      { what: "foreign table public.far", why: "elsewhere" },
    ];
    const look: SourceContents = { ...LOOK, largeObjects: [{ count: 1 }] };
    const found = checkContents(look, { ...CATALOG, skipped });
    expect(found.map(({ code, subject }) => `${code} ${subject}`)).toEqual([
      "large-objects 1 large object",
      "left-out schema neon",
    ]);
  });

  test("reports a partitioned table once, and not each partition", () => {
    const relations: Relation[] = [
      { ...RELATION, name: "p", kind: "p" },
      { ...RELATION, name: "p1", isPartition: true },
      { ...RELATION, name: "p2", kind: "p", isPartition: true },
    ];
    expect(checkContents({ ...LOOK, relations }, undefined).map(({ subject }) => subject)).toEqual(["p"]);
  });
});

describe("the check of extensions", () => {
  const check = (name: string, version: string) => codes(checkExtensions({ extensions: [{ name, version }] }, TARGET));

  test("blocks if the target lacks an extension", () =>
    expect(check("postgis", "3.5.0")).toEqual(["extension-missing"]));
  test("accepts the same or a newer version on the target", () => {
    expect(check("pgcrypto", "1.3")).toEqual([]);
    expect(check("pgcrypto", "1.2")).toEqual([]);
  });
  test("warns if the target's version is older", () => expect(check("pgcrypto", "1.10")).toEqual(["extension-older"]));

  test.each([
    ["1.9", "1.10", -1],
    ["1.3", "1.3", 0],
    ["1.3", "1.3.0", 0],
    ["3.5.0", "3.4.9", 1],
    ["2.0-beta", "2.0-rc", -1],
  ])("orders %s and %s as %i", (one, other, order) => {
    expect(Math.sign(compareVersions(one, other))).toBe(order);
    expect(Math.sign(compareVersions(other, one))).toBe(-order || 0);
  });
});

describe("the check of features that the target lacks", () => {
  test("reports features by kind, and functions that the target lacks", () => {
    const look: SourceContents = {
      ...LOOK,
      features: [
        { kind: "virtual-column", object: "public.v.b" },
        { kind: "expression SQL/JSON", object: "view public.j" },
      ],
      calls: [
        { name: "any_value(anyelement)", objects: ["view public.a"], count: 30 },
        { name: "lower(text)", objects: ["view public.l"], count: 1 },
      ],
      bodies: [{ object: "function f()", uses: ["array_shuffle"] }],
    };
    const found = checkFeatures(look, { functions: new Set(["lower(text)"]) });
    expect(found.map(({ code, subject }) => `${code} ${subject}`)).toEqual([
      "feature-virtual-column public.v.b",
      "feature-expression view public.j",
      "feature-function view public.a",
      "feature-function 29 others",
      "feature-in-body function f()",
    ]);
    // Without a target, its functions are unknown.
    expect(codes(checkFeatures(look, undefined))).not.toContain("feature-function");
  });
});

describe("the check of collations", () => {
  const index = {
    name: "public.i",
    table: "public.t",
    unique: true,
    columns: ["public.t.a"],
    usesDefault: true,
    folds: true,
    loose: false,
  };
  const look: SourceContents = {
    ...LOOK,
    textIndexes: [index],
    textBounds: ["public.p"],
    textComputed: ["check public.t.c"],
  };
  const rules = TARGET;

  test("finds nothing if both sides sort alike", () => {
    expect(checkCollations(look, "ICU en-US", rules)).toEqual([]);
    expect(checkCollations(look, "libc POSIX", { ...rules, collation: "libc C" })).toEqual([]);
  });

  test("reports indexes, bounds and computed values that depend on a different collation", () => {
    expect(codes(checkCollations(look, "libc C.UTF-8", rules))).toEqual([
      "collation-order",
      "collation-uniqueness",
      "collation-bounds",
      "collation-computed",
    ]);
  });

  test("reports a source whose collation changed its version", () => {
    const found = checkCollations({ ...LOOK, databaseCollation: [{ made: "2.31", now: "2.36" }] }, "ICU en-US", rules);
    expect(codes(found)).toEqual(["collation-version"]);
  });

  const used = { schema: "public", name: "x", provider: "c", locale: "C.UTF-8", rules: null, made: null, now: null };
  test.each([
    [{ ...used }, []],
    [{ ...used, locale: "en_US.utf8" }, ["collation-missing"]],
    [{ ...used, provider: "b" }, ["collation-missing"]],
    [{ ...used, provider: "i", locale: "en", rules: "&a < b" }, ["collation-missing"]],
    [{ ...used, provider: "i", locale: "und-u-ks-level2" }, []],
    [{ ...used, schema: "pg_catalog", name: "en-x-icu", provider: "i" }, []],
    [{ ...used, schema: "pg_catalog", name: "pg_c_utf8", provider: "b" }, ["collation-missing"]],
  ])("yields for %j: %j", (collation, expected) => {
    expect(codes(checkCollations({ ...LOOK, collations: [collation] }, "ICU en-US", rules))).toEqual(expected);
  });
});

describe("the check of the target", () => {
  test("finds nothing wrong with a suitable target", () => {
    expect(checkTarget(TARGET, "game", 2)).toEqual([]);
    expect(checkObjects(LOOK, TARGET)).toEqual([]);
  });

  test("reports all problems at once", () => {
    const target: TargetInfo = {
      ...TARGET,
      relations: ["public.mine"],
      lockHeld: true,
      connectionsLeft: 4,
      sideDatabases: [
        { name: "game_import", ours: false },
        { name: "game_before_import", ours: true },
      ],
    };
    expect(codes(checkTarget(target, "game", 2))).toEqual([
      "target-not-empty",
      "import-running",
      "target-name-taken",
      "side-database-left",
      "target-connections",
    ]);
  });

  test("reports each role that policies name and the target lacks, once", () => {
    const policyRoles = [
      { role: "authenticated", table: "a" },
      { role: "authenticated", table: "b" },
      { role: "sectorwars_owner", table: "a" },
    ];
    const found = checkObjects({ ...LOOK, policyRoles }, TARGET);
    expect(found.map(({ code, subject }) => `${code} ${subject}`)).toEqual(["role-missing role authenticated"]);
  });

  test.each([
    [0.5 * GIB, "disk-too-small"],
    [1.5 * GIB, "disk-tight"],
    [10 * GIB, "disk-room"],
    [undefined, "disk-unknown"],
  ])("for 1 GiB with %s bytes free yields %s", (free, code) => {
    expect(codes(checkRoom(free, GIB, GIB))).toEqual([code]);
  });

  test.each([
    [GIB / 20, undefined, "disk-too-small"],
    [GIB / 4, undefined, "disk-tight"],
    [GIB, undefined, "disk-room"],
    [GIB, 9 * GIB, "disk-room"],
    // The data is on the same disk and needs all of it.
    [GIB, GIB, "disk-too-small"],
    [undefined, GIB, "disk-unknown"],
  ])("for a safety copy of 1 GiB, with %s bytes free for it and %s for the data, yields %s", (free, ofData, code) => {
    const found = checkCopyRoom(free, [{ bytes: GIB }], { free: ofData, bytes: GIB });
    expect(codes(found)).toEqual([code]);
    expect(found[0]?.subject).toBe("the safety copy's disk");
  });

  test("measures the free space of the parent folder if a folder does not exist yet", async () => {
    expect(await freeForFiles("nowhere/yet")).toBeGreaterThan(0);
  });

  test.each([
    [
      "Filesystem     1024-blocks     Used Available Capacity Mounted on\n/dev/vda1 1000 400 600 40% /var/lib/postgresql/data\n",
      614_400,
    ],
    ["Filesystem 1024-blocks Used Available Capacity Mounted on\noverlay with blank 9 4 5 45% /a path\n", 5120],
    ["", undefined],
  ])("reads df's output %j as %s bytes", (said, bytes) => expect(parseDf(said)).toBe(bytes));
});

describe("estimates", () => {
  test("say whether they come from the size on disk or from a sample", () => {
    const tables = [makeTable("ships", { bytes: GIB })];
    const words = (sample?: { ratio: number; rate: number }) =>
      estimate({ ...CATALOG, tables }, 2 * GIB, 2, sample).map(({ what }) => what);
    expect(words()[1]).toBe("about 1.0 GB over the wire, each byte once (from their size on disk)");
    expect(words({ ratio: 2, rate: 1024 ** 2 })[1]).toMatch(/^about 2\.0 GB .*from a sample/);
    // A slow connection determines the time, and a fast one does not.
    expect(words({ ratio: 1, rate: 1024 ** 2 })[2]).toMatch(/^about 9 min /);
    expect(words({ ratio: 1, rate: GIB })[2]).toBe(
      words()[2]?.replace("(", "(1.0 GB per second and connection measured, "),
    );
  });

  test("contain only the source's size without a catalog", () =>
    expect(codes(estimate(undefined, GIB, 2, undefined))).toEqual(["source-size"]));

  test.each([
    [0.2, "1 s"],
    [89, "89 s"],
    [120, "2 min"],
    [9000, "2.5 h"],
  ])("print %s seconds as %s", (seconds, told) => expect(humanSeconds(seconds)).toBe(told));
});
