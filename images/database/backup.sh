#!/bin/sh
# What surrounds pgBackRest inside containers: archiving, backups when they are due, a record of what each holds, drills,
# restores. POSIX sh, with the tools that Debian and Alpine (busybox) have in common.
#
#   in the database's container:  prepare, recover SYSTEM, share-histories FOLDER, pgbackrest-push FILE, wal-get NAME PATH
#   in the backups' container:    serve, init [anew], run full|diff|drill, report, note-timeline, meet ROLE
#   in a container of its own:    restore-aside FOLDER ARGUMENTS...
#   in any of them:               session PROGRAM ARGUMENTS..., for programs that connect to the server
#
# The parts lie in backup/; in each what belongs together, and nothing that runs by itself.
set -eu

VOLUME=/var/lib/postgresql/data
STORE=/var/lib/sectorwars-backups
STATE=$STORE/state
SCRATCH=$STORE/scratch
ASIDE=/tmp/aside
# What the programs say goes elsewhere than to the repository's disk: a full one is among what they complain of.
OUTPUT=/tmp/output
UNWRITTEN=/tmp/unwritten
SHARE=/usr/local/share/sectorwars
# In the data's volume, outside the data: what the archiver must remember even when the repository is gone.
BEGAN=$VOLUME/archiving-began
GAPS=$VOLUME/archiving-gaps
# Its time stamp: up to when everything that was written is in the repository.
ARCHIVED=$VOLUME/archived-until
# What the last attempt at archiving said, while they fail.
SAID=$VOLUME/archiving-said
# On which system the data was made: text sorts differently elsewhere (start.sh).
MADE_ON=$VOLUME/made-on
# What the data is being restored to, until it has been recovered.
RECOVERING=$VOLUME/recovering
RESTORE_COMMAND='sectorwars-backup wal-get %f "%p"'
# Seconds between two looks at the schedule.
PACE=5
# After so many of them, a look at what damage the server has found: its count is gone after a crash.
ROUNDS_PER_LOOK=120
# After so many failures in a row, the longest wait before the next attempt.
LONGEST_WAIT_AFTER=9
# Before this many WAL files of 16 MB wait, or so little room is left (kB), no file is given up.
PATIENCE_FILES=8
PATIENCE_FREE_KB=262144
# The limit of connections to a database whose DROP was interrupted (PostgreSQL 15.4): nobody gets into it any more.
INVALID=-2
# What sessions that count call themselves.
RECORDING=sectorwars-record
# Room that is left beside a drill for the server itself, kB; of a small disk, a tenth.
ROOM_LEFT_KB=1048576
# The advisory lock that pgBackRest holds in the database `postgres` while it makes a backup (its PG_BACKUP_ADVISORY_LOCK).
# Whoever copies a database by its files holds it as well (lib/backup-lock.ts).
BACKUP_LOCK=12340078987004321

now() { date +%s; }

as_postgres() {
	if [ "$(id -u)" != 0 ]; then "$@"
	elif command -v gosu >/dev/null; then gosu postgres "$@"
	else su-exec postgres "$@"; fi
}

# named DATABASE: as psql takes it for a name, whatever is in it.
named() { printf "dbname='%s'" "$(printf '%s' "$1" | sed "s/[\\\\']/\\\\&/g")"; }

# A text as JSON, on one line, without what a wrong key makes of words.
json() { printf '"%s"' "$(printf '%s' "$1" | tr '\n\t\r' '   ' | tr -cd '\040-\176' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# A line for the container's log, also from `docker exec`.
log() {
	line="{\"time\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\",$1}"
	printf '%s\n' "$line"
	if [ "${SERVING:-}" != yes ] && [ -w /proc/1/fd/1 ]; then printf '%s\n' "$line" >/proc/1/fd/1; fi
}

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# What is being done, for whoever waits for it; nobody waits for the schedule.
tell() { [ "${SERVING:-}" = yes ] || echo "$*" >&2; }

# The words of an output that tell what went wrong: pgBackRest's and PostgreSQL's errors, or the last line.
cause() {
	said=$(tr -cd '\011\012\040-\176' <"$1" | grep -E 'ERROR|FATAL|PANIC|error:' |
		grep -vE 'not accepting connections|starting up' | tail -n 3 | cut -c1-600)
	[ -n "$said" ] || said=$(tail -n 1 "$1" | cut -c1-600)
	printf '%s' "${said#error: }"
}

for part in session archiving recovery aside notes damage record backup drill schedule report restore; do
	# shellcheck source=/dev/null
	. "$SHARE/$part.sh"
done

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
prepare) prepare ;;
recover) recover "$@" ;;
pgbackrest-push) push "$@" ;;
wal-get) wal_get "$@" ;;
init) init "$@" ;;
serve) serve ;;
run) run "$@" ;;
report) report ;;
note-timeline) note_timeline ;;
share-histories) share_histories "$@" ;;
meet) meet "$@" ;;
restore-aside) restore_aside "$@" ;;
session) session "$@" ;;
*) fail "usage: sectorwars-backup prepare|recover|pgbackrest-push|wal-get|init|serve|run|report|note-timeline|share-histories|meet|restore-aside|session" ;;
esac
