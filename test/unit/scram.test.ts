import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { passwordVerifier, verifierWithSalt } from "../../lib/scram.ts";

test("verifierWithSalt produces the server signature of RFC 7677's example", () => {
  const verifier = verifierWithSalt("pencil", Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64"));
  const [, stored = "", server = ""] =
    /^SCRAM-SHA-256\$4096:W22ZaJ0SNY7soEsUEjb6gQ==\$([^:]+):(.+)$/.exec(verifier) ?? [];
  const said =
    "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
  const signature = createHmac("sha256", Buffer.from(server, "base64")).update(said).digest("base64");
  expect(signature).toBe("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  expect(Buffer.from(stored, "base64")).toHaveLength(32);
});

test("passwordVerifier is the same for the same role and password, and different for others", () => {
  const verifier = passwordVerifier("owner", "secret");
  expect(passwordVerifier("owner", "secret")).toBe(verifier);
  expect(passwordVerifier("app", "secret")).not.toBe(verifier);
  expect(passwordVerifier("owner", "secret2")).not.toBe(verifier);
  expect(verifier).not.toContain("secret");
});
