/**
 * Lists words and names that docs/glossary.md has retired: node script/lint-words.ts [FILE|FOLDER ...]. Exits with 1 if it finds any.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { findRetired } from "./retired-words.ts";

/** Files of other authors, records, and files that have to name the retired words. */
const EXCLUDED =
  /^(test\/cases\/|bench\/RESULTS\.md|docs\/glossary\.md|script\/retired-words\.ts|test\/unit\/retired-words)|go\.sum$|lock\.json$/;
/** Names that are recorded in states, databases and images of earlier versions. */
const RECORDED = /backups:BackupsBegun|restore-aside|save point of/g;
const READ = /\.(ts|sh|awk|sql|md|yaml|yml|json|html|py)$|(^|\/)(db|Dockerfile|[a-z-]+)$/;

const paths = process.argv.slice(2);
const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "--", ...paths], {
  encoding: "utf8",
  maxBuffer: 16 * 1024 * 1024,
});
let found = 0;
for (const file of listed.split("\n").filter((name) => READ.test(name) && !EXCLUDED.test(name))) {
  for (const { line, word, instead } of findRetired(readFileSync(file, "utf8").replaceAll(RECORDED, ""))) {
    found += 1;
    console.error(`${file}:${line}: "${word}": ${instead}`);
  }
}
if (found > 0) {
  console.error(`${found} retired ${found === 1 ? "word" : "words"}: docs/glossary.md says how we write`);
  process.exitCode = 1;
}
