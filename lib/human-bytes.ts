/** Formats a number of bytes for people. */
export function humanBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  // A value less than 0.05 below the next unit is already rounded up to it.
  const power = Math.min(Math.floor(Math.log(bytes * (1 + 0.05 / 1024)) / Math.log(1024)), units.length);
  return `${(bytes / 1024 ** power).toFixed(1)} ${units[power - 1]}`;
}
