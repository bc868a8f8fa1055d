# Prints the backups in pgBackRest's list, oldest first, a line each:
#   label sound|damaged start stop first-WAL-file last-WAL-file stop-position bytes
# Times are seconds since 1970. Bytes are what the backup added to the repository. "-" stands for what pgBackRest does not tell. Reads the
# members of the list that repository.sh extracts, a line each; pgBackRest sorts the members of a backup by their names.
BEGIN { FS = "[:,]" }
$1 == "archive" { state = "sound"; bytes = position = "-"; first = $3; last = $5 }
$1 == "error" { state = $2 == "true" ? "damaged" : "sound" }
$1 == "repository" { bytes = $3 }
$1 == "label" { label = $2 }
$1 == "lsn" { position = $5 }
$1 == "timestamp" { print label, state, $3, $5, first, last, position, bytes }
