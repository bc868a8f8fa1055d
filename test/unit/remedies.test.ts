import { expect, test } from "vitest";
import { remedyFor } from "../../components/import/schema/remedies.ts";

test.each([
  ['role "authenticated" does not exist', './db psql --role superuser, then: CREATE ROLE "authenticated" NOLOGIN'],
  ['role "o"dd" does not exist', './db psql --role superuser, then: CREATE ROLE "o""dd" NOLOGIN'],
])("a role that is missing can be made: %s", (message, remedy) => expect(remedyFor(message)).toBe(remedy));

test.each([
  'schema "auth" does not exist',
  'relation "neon_auth.users_sync" does not exist',
  'schema "neon" does not exist',
])("what is Neon's own stays there: %s", (message) => expect(remedyFor(message)).toMatch(/belongs to Neon .* branch/));

// A policy may group by a key that does not exist yet, or use a function that comes later in the dump.
test.each([
  'column "p.name" must appear in the GROUP BY clause or be used in an aggregate function',
  "function public.later() does not exist",
  'relation "public.authors" does not exist',
  'relation "neon_auth_of_mine.users" does not exist',
])("anything else may come in time: %s", (message) => expect(remedyFor(message)).toBeUndefined());
