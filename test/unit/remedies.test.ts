import { expect, test } from "vitest";
import { remedyFor } from "../../components/import/schema/remedies.ts";

test.each([
  ['role "authenticated" does not exist', './db psql --role superuser, then: CREATE ROLE "authenticated" NOLOGIN'],
  ['role "o"dd" does not exist', './db psql --role superuser, then: CREATE ROLE "o""dd" NOLOGIN'],
])("the remedy for a missing role creates it: %s", (message, remedy) => expect(remedyFor(message)).toBe(remedy));

test.each([
  'schema "auth" does not exist',
  'relation "neon_auth.users_sync" does not exist',
  'schema "neon" does not exist',
])("the remedy for Neon's own objects is a branch without them: %s", (message) =>
  expect(remedyFor(message)).toMatch(/belongs to Neon .* branch/),
);

// A policy may group by a key, or use a function, that comes later in the dump.
test.each([
  'column "p.name" must appear in the GROUP BY clause or be used in an aggregate function',
  "function public.later() does not exist",
  'relation "public.authors" does not exist',
  'relation "neon_auth_of_mine.users" does not exist',
])("there is no remedy for objects that the dump may still create: %s", (message) =>
  expect(remedyFor(message)).toBeUndefined(),
);
