import { expect, test } from "vitest";
import { findLookalike } from "../../components/import/source/intended-source.ts";

const URL = "postgresql://u:p@ep-cool-1234.eu-central-1.aws.neon.tech/neondb";
const LOCAL = "postgresql://u:p@localhost:5432/game";

test.each([
  ["NEON_DATABSE_URL", LOCAL],
  ["NEON_DATABASE_URI", LOCAL],
  ["NEON_DB_URL", LOCAL],
  ["neon_database_url", LOCAL],
  ["NEONDATABASE_URL", "what is no URL"],
  ["NEON_DATABASE_URL ", LOCAL],
  ["MY_NEON", `'${LOCAL}'`],
  ["DATABASE_URL", URL],
  ["DATABASE_URL", `psql '${URL}?sslmode=require'`],
])("%s=%s is reported as a misspelt NEON_DATABASE_URL", (name, value) => {
  expect(findLookalike({ HOME: "/root", [name]: value })).toBe(name);
});

test.each([
  ["NEON_DATABASE_URL", URL],
  ["NEON_DATABASE_URL_GAME", URL],
  ["NEON_DATABASE_URL", ""],
  ["NEON_DATABASE_URI", ""],
  ["NEON_ROOT_CERTIFICATES", "/tmp/authority.pem"],
  ["NEON_API_KEY", "napi_secret"],
  ["DATABASE_URL", LOCAL],
  ["TEST_DATABASE_URL", LOCAL],
  ["DATABASE_URL", "mysql://u:p@ep.neon.tech/db"],
])("%s=%s is not reported", (name, value) => {
  expect(findLookalike({ [name]: value })).toBeUndefined();
});
