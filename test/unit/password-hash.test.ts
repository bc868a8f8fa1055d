import { expect, test } from "vitest";
import { fitsPassword, hashPassword, isPasswordScheme, sqlExpressionOf } from "../../components/seed/password-hash.ts";

// test/stack/migrations.test.ts verifies such hashes with Python in the application's image.
test.each([
  ["argon2id", /^\$argon2id\$v=19\$m=65536,t=3,p=4\$[\w+/]{22}\$[\w+/]{43}$/],
  ["bcrypt", /^\$2b\$12\$[\w./]{53}$/],
  ["scrypt", /^\$scrypt\$ln=17,r=8,p=1\$[\w+/]{22}\$[\w+/]{43}$/],
  ["pbkdf2_sha256", /^\$pbkdf2-sha256\$600000\$[\w./]{22}\$[\w./]{43}$/],
])("%s produces a hash in passlib's format, each time with another salt", async (scheme, format) => {
  const [one, two] = await Promise.all([hashPassword(scheme, "secret"), hashPassword(scheme, "secret")]);
  expect(one).toMatch(format);
  expect(two).not.toBe(one);
  expect(await fitsPassword(one, "secret")).toBe(true);
  expect(await fitsPassword(one, "Secret")).toBe(false);
});

test("a hash in any other format matches no password", async () => {
  for (const hash of [
    "",
    "secret",
    "$",
    "$5$rounds=1$a$b",
    "$pbkdf2-sha256$29000$a$b",
    "$argon2i$v=19$m=1,t=1,p=1$a$b",
  ])
    expect(await fitsPassword(hash, "secret")).toBe(false);
});

test("a password that bcrypt would truncate is refused", async () => {
  await expect(hashPassword("bcrypt", "é".repeat(37))).rejects.toThrow("only the first 72 bytes");
});

test("a password scheme is one of four names, or SQL with $1", async () => {
  expect(["argon2id", "sql: crypt($1, 'x')", "sql:$1"].every(isPasswordScheme)).toBe(true);
  expect(["md5", "toString", "sql: now()", "crypt($1)"].some(isPasswordScheme)).toBe(false);
  expect(sqlExpressionOf("sql: a($1)")).toBe("a($1)");
  expect(sqlExpressionOf("bcrypt")).toBeUndefined();
  await expect(hashPassword("toString", "secret")).rejects.toThrow('There is no password scheme "toString"');
});
