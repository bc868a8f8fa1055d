import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  driverOf,
  type Redirection,
  redirectVariables,
  withDriver,
} from "../../components/handover/connection-values.ts";

const TO = { host: "here", port: 5500, database: "game", user: "app", password: "p w" };
const REDIRECTION: Redirection = {
  names: (host, port) => host === "db" || (host === "localhost" && port === 5432),
  endpointOf: (database) => ({ ...TO, database: database === "nexus" ? "nexus" : "game" }),
  former: { user: "postgres", password: "old", database: "olddb" },
};
const redirect = (variables: Record<string, string>) => redirectVariables(variables, REDIRECTION);

describe("variables that connect to the old database", () => {
  test.each([
    ["postgresql://u:p@db:5432/x", "postgresql://app:p%20w@here:5500/game"],
    ["postgres://u:p@db/x", "postgresql://app:p%20w@here:5500/game"],
    ["postgresql+asyncpg://u:p%40@db/nexus?a=b", "postgresql+asyncpg://app:p%20w@here:5500/nexus?a=b"],
    ["postgres+psycopg://u:p@ss@db/x", "postgresql+psycopg://app:p%20w@here:5500/game"],
    ["jdbc:postgresql://db/x?user=u", "jdbc:postgresql://here:5500/game?user=u"],
    ["db+postgresql://u:p@db/x", "db+postgresql://app:p%20w@here:5500/game"],
    ["psql://u@db/x", "psql://app:p%20w@here:5500/game"],
    ["postgresql://db/x", "postgresql://app:p%20w@here:5500/game"],
    ["postgis://u:p@db/x", "postgis://app:p%20w@here:5500/game"],
    [
      "primary=postgresql://u:p@db/x other=redis://db/1",
      "primary=postgresql://app:p%20w@here:5500/game other=redis://db/1",
    ],
    [
      '["postgres://u:p@db/x","postgres://u:p@other/x"]',
      '["postgresql://app:p%20w@here:5500/game","postgres://u:p@other/x"]',
    ],
    ["postgres://u:p@db/x,postgres://u:p@other/x", "postgresql://app:p%20w@here:5500/game,postgres://u:p@other/x"],
    ["host=db dbname=x user=u password=p", "host=here dbname=game user=app password=p w port=5500"],
    ["Host=db;Database=nexus;Username=u;Password=p;", "Host=here;Database=nexus;Username=app;Password=p w;port=5500"],
  ])("%j becomes %j", (value, expected) => {
    expect(redirect({ X: value })).toEqual({ X: expected });
  });

  test.each([
    "postgresql://u:p@other/db",
    "postgresql://db:p@other:5432/x",
    "mysql://u:p@db/x",
    "redis://db:6379",
    "https://db/x",
    "db",
    "host=other dbname=db",
    "-Dhost=db -Da=b",
    "",
  ])("%j stays unchanged", (value) => {
    expect(redirect({ X: value })).toEqual({});
  });

  test("can hold host, port, user, password and database separately, with any prefix", () => {
    expect(
      redirect({
        DB_HOST: "db",
        DB_PORT: "5432",
        DB_USERNAME: "u",
        DB_PASSWORD: "p",
        DB_DATABASE: "nexus",
        DB_POOL: "5",
      }),
    ).toEqual({ DB_HOST: "here", DB_PORT: "5500", DB_USERNAME: "app", DB_PASSWORD: "p w", DB_DATABASE: "nexus" });
    // The old database accepted connections without a password.
    expect(redirect({ PGHOST: "db", PGUSER: "u" })).toEqual({
      PGHOST: "here",
      PGUSER: "app",
      PGPASSWORD: "p w",
      PGPORT: "5500",
    });
    expect(redirect({ GITEA__database__HOST: "db:5432" })).toEqual({ GITEA__database__HOST: "here:5500" });
    expect(redirect({ HOST: "db", PORT: "8080" })).toEqual({ HOST: "here" });
    expect(
      redirect({ DB_HOST: "localhost", REDIS_HOST: "localhost", HOST: "localhost", SMTP_SERVER: "localhost" }),
    ).toEqual({
      DB_HOST: "here",
      DB_PORT: "5500",
    });
    expect(redirect({ APP_DB_URL: "jdbc:postgresql://db/x", APP_DB_USER: "u", APP_DB_PASSWORD: "p" })).toEqual({
      APP_DB_URL: "jdbc:postgresql://here:5500/game",
      APP_DB_USER: "app",
      APP_DB_PASSWORD: "p w",
    });
  });

  test("include POSTGRES_USER, _PASSWORD and _DB beside a host with another prefix, and no other credentials", () => {
    const login = { POSTGRES_USER: "postgres", POSTGRES_PASSWORD: "old", POSTGRES_DB: "olddb" };
    const others = { REDIS_PASSWORD: "old", DB_SUPERUSER_PASSWORD: "old", POSTGRES_REPLICA_PASSWORD: "else" };
    expect(redirect({ DB_HOST: "db", ...login, ...others })).toEqual({
      DB_HOST: "here",
      DB_PORT: "5500",
      POSTGRES_USER: "app",
      POSTGRES_PASSWORD: "p w",
      POSTGRES_DB: "game",
    });
    expect(redirect({ ...login, ...others })).toEqual({});
    // A service that depends on the database may have the host in its code.
    const parts = { DB_USERNAME: "postgres", DB_PASSWORD: "old", DB_DATABASE_NAME: "olddb", UPLOADS: "old" };
    expect(redirectVariables(parts, REDIRECTION, true)).toEqual({
      DB_USERNAME: "app",
      DB_PASSWORD: "p w",
      DB_DATABASE_NAME: "game",
    });
  });

  test("lose the URL parameters that only a remote server needs", () => {
    const remote: Redirection = { ...REDIRECTION, names: (host) => host === "ep-1.neon.tech" };
    const url = "postgresql://u:p@ep-1.neon.tech/x?sslmode=require&application_name=a&channel_binding=require";
    expect(redirectVariables({ X: url }, remote)).toEqual({
      X: "postgresql://app:p%20w@here:5500/game?application_name=a",
    });
  });

  test("are not changed by a second run", () => {
    const host = fc.constantFrom("db", "localhost", "other", "ep.neon.tech");
    const value = fc.oneof(
      fc.string(),
      fc
        .tuple(fc.constantFrom("postgres", "postgresql+asyncpg", "redis"), host, fc.constantFrom("", ":5432", ":1"))
        .map(([scheme, host, port]) => `${scheme}://u:p@${host}${port}/x?y=z`),
      host,
    );
    const variables = fc.dictionary(
      fc.constantFrom("DATABASE_URL", "DB_HOST", "DB_PORT", "PGHOST", "HOST", "X"),
      value,
    );
    fc.assert(
      fc.property(variables, (all) => {
        const once = redirect(all);
        expect(redirect({ ...all, ...once })).toEqual({});
      }),
      { numRuns: 500 },
    );
  });
});

test("the driver of a URL is read and replaced", () => {
  expect(driverOf("postgresql+psycopg://u:p@h/x")).toBe("+psycopg");
  expect([driverOf("postgresql://u:p@h/x"), driverOf(undefined)]).toEqual(["", ""]);
  expect(withDriver("postgresql+psycopg2://u@h/x", "+asyncpg")).toBe("postgresql+asyncpg://u@h/x");
  expect(withDriver("postgresql://u@h/x", "")).toBe("postgresql://u@h/x");
});
