# Prints the newest sound backup that leads to a moment on a timeline; nothing if none does. Reads the lines of backups.awk. Variables:
# wanted, the timeline; moment, "latest" or seconds since 1970; after, how many seconds after its end a backup reaches a moment; notes, the
# file with a line for each timeline: since, number, parent, and the position at which it left its parent.
# Needs hex.awk.

# A text that compares as the position does.
function place(lsn, parts) { split(lsn, parts, "/"); return sprintf("%8s%8s", parts[1], parts[2]) }

# Whether a backup that ended at a position is on the wanted timeline, or on the part of its ancestors that belongs to it.
function leads(timeline, stop, id, limit) {
  for (id = wanted; id > 0; id = parent[id] < id ? parent[id] : 0) {
    if (timeline == id) return limit == "" || stop <= limit
    if (!(id in parent)) return 0
    limit = fork[id]
  }
  return 0
}

BEGIN {
  wanted += 0
  while ((getline line < notes) > 0) {
    split(line, note, " ")
    parent[note[2] + 0] = note[3] + 0
    fork[note[2] + 0] = place(note[4])
  }
}
# Columns: label, state, start, stop, first WAL file, last WAL file, stop position, bytes.
$2 == "sound" && (moment == "latest" || $4 + after <= moment + 0) && leads(number(substr($5, 1, 8)), place($7)) { found = $1 }
END { print found }
