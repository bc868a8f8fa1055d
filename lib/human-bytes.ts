/** Bytes as people read them. */
export function humanBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  // Half a tenth below the next unit already rounds up to it.
  const power = Math.min(Math.floor(Math.log(bytes * (1 + 0.05 / 1024)) / Math.log(1024)), units.length);
  return `${(bytes / 1024 ** power).toFixed(1)} ${units[power - 1]}`;
}
