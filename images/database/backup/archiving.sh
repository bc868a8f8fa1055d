# shellcheck shell=dash
# Archiving, in the database's container, and the restore_command of every recovery.

# Puts the configuration, which holds the key, where only the server's user can read it. The file that Docker mounts is root's.
archive_prepare() {
	local folder
	umask 077
	cp /run/pgbackrest.conf /etc/pgbackrest/pgbackrest.conf
	# The certificate authority of a store is in the configuration too, as comments.
	sed -n 's/^# authority: //p' /run/pgbackrest.conf >/etc/pgbackrest/authority.pem
	chown postgres /etc/pgbackrest/pgbackrest.conf /etc/pgbackrest/authority.pem
	# A folder of the host belongs to root at first. If it cannot be changed, the first write to it reports that.
	for folder in "$STORE" "$STORE/repository"; do
		mkdir -p "$folder" 2>/dev/null || :
		if [ "$(stat -c %U "$folder" 2>/dev/null)" = root ]; then chown -R postgres "$folder" 2>/dev/null || :; fi
	done
}

# archive_push FILE: the server's archive_command; pgBackRest requires that its own name is in that. A file that cannot be archived waits
# in pg_wal until the disk is as full as the stack allows. Then it is dropped, and a list that the backups' container and every
# restore read gets an entry, so WAL is never dropped silently.
archive_push() {
	local words used
	if words=$(pgb archive-push "$1" 2>&1); then
		[ -e "$ARCHIVING_BEGAN" ] || : >"$ARCHIVING_BEGAN"
		# The last change in the file was made when the file was last written to, whenever it is archived.
		touch -r "$1" "$ARCHIVED_UNTIL" || :
		[ ! -e "$ARCHIVING_ERROR" ] || rm -f "$ARCHIVING_ERROR"
		return 0
	fi
	# No backup was ever started, so this file could restore nothing. The first import need not wait for it.
	if [ ! -e "$ARCHIVING_BEGAN" ]; then
		case $words in *archive.info*) return 0 ;; esac
	fi
	words=$(printf '%s\n' "$words" | grep -a ERROR || printf '%s\n' "$words")
	printf '%s\n' "$words" >&2
	# Commands that wait for the file print this. A full disk may have no room for it.
	{ printf '%s\n' "$words" >"$ARCHIVING_ERROR.partial" && mv "$ARCHIVING_ERROR.partial" "$ARCHIVING_ERROR"; } 2>/dev/null ||
		rm -f "$ARCHIVING_ERROR.partial"
	# If the disk cannot be examined, nothing is dropped.
	if [ "$(archive_room)" != 0 ]; then return 1; fi
	# The gap begins at the time of the last archived change. An earlier file may have been dropped since.
	printf '%s %s\n' "$(stat -c %Y "$ARCHIVED_UNTIL" 2>/dev/null || now)" "${1##*/}" >>"$ARCHIVING_GAPS" || return 1
	sync
	used=$(df -Pk "$VOLUME" | awk 'NR == 2 { print $5 }')
	echo "ERROR: the WAL file ${1##*/} was dropped: it cannot be archived, and the disk is ${used%\%} % full (limit $BACKUP_WAL_DROP_PERCENT %)." \
		"Until a new full backup is made, later changes cannot be restored" >&2
}

# Prints how many kB of WAL that cannot be archived still fit on the data's disk before WAL is dropped; 0 if it is dropped now. That is
# when BACKUP_WAL_DROP_PERCENT percent are used. On a disk that is full of other things, a repository that is unreachable for a minute is
# no reason to drop WAL: a few files may wait while some room is left. Prints nothing if the disk cannot be examined.
archive_room() {
	df -Pk "$VOLUME" | archive_room_of "${BACKUP_WAL_DROP_PERCENT:?}" \
		"$(find "$VOLUME/pgdata/pg_wal/archive_status" -name '*.ready' | wc -l)"
}

# archive_room_of PERCENT WAITING: the same, for the output of `df -Pk` on standard input and a number of files that wait.
archive_room_of() {
	awk -v percent="$1" -v waiting="$2" -v files="$PATIENCE_FILES" -v free="$PATIENCE_FREE_KB" '
		NR == 2 {
			room = percent * ($3 + $4) / 100 - $3
			patience = (files - waiting) * 16384
			if ($4 - free < patience) patience = $4 - free
			if (patience > room) room = patience
			# A part of a kB is room.
			printf "%.0f\n", (room <= 0 ? 0 : room < 1 ? 1 : int(room))
		}'
}

# Ends a recovery with an error. PostgreSQL takes any exit code up to 125 to mean that there is no such file, and ends the recovery there.
archive_stop_recovery() {
	echo "ERROR: $*" >&2
	exit 126
}

# archive_get NAME PATH: the restore_command of every recovery, which must not end early and silently at a file that is damaged, missing or
# cannot be read. pgBackRest returns a file whose bytes were changed in the repository as long as it can be decompressed, and
# PostgreSQL takes the first invalid record for the end of the log. So the content is compared with the checksum in the file's name.
archive_get() {
	local code checksum files
	code=0
	pgb --pg1-path="$PWD" archive-get "$1" "$2" || code=$?
	case $code in 0 | 1) ;; *) exit 126 ;; esac
	# The history of a timeline is not a segment.
	case $1 in *[!0-9A-F]*) exit "$code" ;; esac
	if [ "$code" = 1 ]; then archive_refuse_hole "$1"; fi
	checksum=$(sha1sum "$2" | cut -d ' ' -f 1)
	files=$(repository_wal "${1%????????}") || archive_stop_recovery "the repository cannot be listed"
	if ! printf '%s\n' "$files" | grep -q "^$1-$checksum"; then
		archive_stop_recovery "the WAL file $1 is damaged in the repository: its content has another checksum than it was archived with"
	fi
}

# archive_refuse_hole NAME: the archive has no such file. Ends the recovery normally at the end of the archive, and with an error if later
# files are there.
archive_refuse_hole() {
	local timeline wanted left files newest
	timeline=${1%????????????????}
	wanted=$(sed -n "s/^recovery_target_timeline = '\([0-9]*\)'.*/\1/p" postgresql.auto.conf | tail -n 1)
	if [ -n "$wanted" ] && [ "$(printf '%08X' "$wanted")" != "$timeline" ]; then
		# On a timeline that the server left, every file up to the one in which it left is needed. PostgreSQL also asks for some later
		# ones, which need not be there.
		left=$(archive_left_in "$timeline" "pg_wal/$(printf '%08X' "$wanted").history")
		if [ -n "$left" ] && archive_is_later "$left" "${1#????????}"; then
			archive_stop_recovery "the WAL file $1 is missing in the repository"
		fi
		exit 1
	fi
	files=$(repository_wal "$timeline") || archive_stop_recovery "the repository cannot be listed"
	newest=$(printf '%s\n' "$files" | grep -E '^[0-9A-F]{24}-' | sort | tail -n 1)
	if [ -n "$newest" ] && archive_is_later "${newest%%-*}" "$1"; then
		archive_stop_recovery "the WAL file $1 is missing in the repository, while later ones are there"
	fi
	exit 1
}

# archive_is_later NAME OTHER: whether a file comes after another one of the same timeline.
archive_is_later() { awk -v name="$1" -v other="$2" 'BEGIN { exit !(name "" > other "") }'; }

# archive_left_in TIMELINE HISTORY: prints the file, without its timeline, in which the server left a timeline according to a history.
archive_left_in() {
	local parent position
	[ -e "$2" ] || return 0
	while read -r parent position _; do
		case $parent in '' | *[!0-9]*) continue ;; esac
		if [ "$(printf '%08X' "$parent")" = "$1" ]; then
			printf '%08X%08X\n' "$((0x${position%/*}))" "$((0x${position#*/} >> 24))"
			return
		fi
	done <"$2"
}

# Archives the histories of all timelines. The server archives each one once, before anything else of its timeline. If the repository was
# lost since, or WAL was dropped then, nothing of that timeline could ever be restored.
archive_push_histories() {
	local history
	for history in "$VOLUME"/pgdata/pg_wal/*.history; do
		[ ! -e "$history" ] || pgb --no-archive-async archive-push "$history" || :
	done
}
