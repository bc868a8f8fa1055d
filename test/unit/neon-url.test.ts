import { describe, expect, test } from "vitest";
import { neonUrl } from "../../components/handover/neon-url.ts";

const KEPT = "postgresql://u:p@ep-1.neon.tech/neondb?sslmode=require";

describe("the way back's URL", () => {
  test("from the environment is bare: no parameter, no scheme that SQLAlchemy refuses", () => {
    expect(neonUrl("postgres://u:p@ep-1.neon.tech:5432/neondb?sslmode=require&channel_binding=require", [])).toBe(
      "postgresql://u:p@ep-1.neon.tech:5432/neondb",
    );
  });

  test("that was kept is put back as it was", () => {
    expect(neonUrl(undefined, [undefined, KEPT])).toBe(KEPT);
    expect(neonUrl("", ["postgresql://a:b@localhost:5433/game", KEPT])).toBe(KEPT);
  });

  test.each([
    [undefined, [], "NEON_DATABASE_URL is not set"],
    [undefined, ["postgresql://a:b@database:5432/game", "nonsense", ""], "NEON_DATABASE_URL is not set"],
    ["nonsense", [KEPT], "is not a URL"],
    ["postgresql://u:p@ss/w@host/db", [], "has a second @"],
    ["postgresql://u:s%40cret@host/db", [], "signs that must be encoded"],
  ])("%j with %j is refused, and never shown", (url, kept, message) => {
    const attempt = () => neonUrl(url, kept);
    expect(attempt).toThrow(message);
    expect(attempt).not.toThrow(/cret|p@ss/);
  });
});
