# Of the backups that pgBackRest lists, the newest that leads to a moment on a timeline; nothing where none does. Variables: wanted, the
# timeline; moment, "latest" or seconds since 1970; after, the seconds behind its end from which a moment is reached from a backup; notes, the file with a line for each timeline: since, number, parent, where it left that.
# Lines are parts of the list: archive:start:WAL, error:BOOLEAN, label:LABEL, lsn:start:LSN,stop:LSN, timestamp:start:N,stop:N.
# Needs hex.awk.

# Texts that compare as the positions do.
function place(lsn, parts) { split(lsn, parts, "/"); return sprintf("%8s%8s", parts[1], parts[2]) }

# Whether a backup that ended at a place lies on the wanted timeline, or on what that branched off.
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
$1 == "archive" { timeline = number(substr($3, 1, 8)) }
$1 == "error" { failed = $2 == "true" }
$1 == "label" { label = $2 }
$1 == "lsn" { stop = place($5) }
$1 == "timestamp" && !failed && (moment == "latest" || $5 + after <= moment + 0) && leads(timeline, stop) { found = label }
END { print found }
