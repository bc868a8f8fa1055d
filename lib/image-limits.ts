/** Numbers that the image's scripts and the program must agree on. One file has them, and both read it. */
import { readFileSync } from "node:fs";

const LIMITS = new Map(
  [...readFileSync("images/database/backup/limits.sh", "utf8").matchAll(/^([A-Z_]+)=(\d+)$/gm)].map(
    ([, name = "", value = ""]) => [name, value],
  ),
);

/**
 * Returns the digits of a number in images/database/backup/limits.sh.
 * @throws {Error} if the file has no such number.
 */
export function imageLimit(name: string): string {
  const value = LIMITS.get(name);
  if (value === undefined) throw new Error(`images/database/backup/limits.sh does not set ${name}`);
  return value;
}
