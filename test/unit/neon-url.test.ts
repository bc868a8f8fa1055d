import { describe, expect, test } from "vitest";
import { endpointOfUrl, neonUrl, type UrlSources } from "../../components/handover/neon-url.ts";

const KEPT = "postgresql://u:p@ep-1.neon.tech/neondb?sslmode=require";

const choose = (sources: Partial<UrlSources>) =>
  neonUrl({ own: undefined, environment: undefined, given: undefined, services: ["db"], ...sources });

describe("neonUrl", () => {
  test("returns the file's own URL unchanged if it is remote", () => {
    expect(choose({ own: KEPT, environment: "postgresql://a:b@elsewhere.neon.tech/x" })).toEqual({
      url: KEPT,
      isOwn: true,
    });
  });

  test("returns the environment's URL without parameters, with a scheme that SQLAlchemy accepts", () => {
    const environment = "postgres://u:p@ep-1.neon.tech:5432/neondb?sslmode=require&channel_binding=require";
    for (const own of [undefined, "postgresql://a:b@localhost:5433/game", "postgresql://a:b@db/game"]) {
      expect(choose({ own, environment })).toEqual({
        url: "postgresql://u:p@ep-1.neon.tech:5432/neondb",
        isOwn: false,
      });
    }
  });

  test("returns the last URL if there is no other", () => {
    expect(choose({ given: KEPT })).toEqual({ url: KEPT, isOwn: false });
    expect(choose({ own: "postgresql://a:b@localhost:5433/game", given: KEPT }).url).toBe(KEPT);
  });

  test.each([
    [{}, "NEON_DATABASE_URL is not set"],
    [{ own: "postgresql://a:b@database:5432/game", given: "nonsense" }, "NEON_DATABASE_URL is not set"],
    [{ own: "postgresql://a:b@db:5432/game" }, "NEON_DATABASE_URL is not set"],
    [{ environment: "nonsense", given: KEPT }, "is not a URL"],
    [{ environment: "postgresql://u:p@ss/w@host/db" }, "contains a second @"],
    [{ environment: "postgresql://u:s%40cret@host/db" }, "percent-encoded characters"],
  ])("refuses %j without showing the password", (sources, message) => {
    const attempt = () => choose(sources);
    expect(attempt).toThrow(message);
    expect(attempt).not.toThrow(/cret|p@ss/);
  });
});

test("endpointOfUrl decodes the parts of a URL", () => {
  expect(endpointOfUrl("postgresql+asyncpg://u:p%40@h.example.com/my%20db?x=y")).toEqual({
    host: "h.example.com",
    port: 5432,
    database: "my db",
    user: "u",
    password: "p@",
  });
  expect(endpointOfUrl("nonsense")).toBeUndefined();
});
