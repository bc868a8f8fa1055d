# shellcheck shell=dash
# Fills an empty volume from the repository, in the database's container, before the server's first start.

# recover_volume SYSTEM: /run/recover holds "latest" or seconds since 1970, then arguments for pgBackRest, one a line. SYSTEM is the
# operating system of this image. pgBackRest writes global/pg_control last: if it exists, the data is complete; if not, a former run was
# interrupted. While recovery.signal exists, no session has written to the data, so if a recovery to one time fails, the data may be
# restored again for another time.
recover_volume() {
	local moment argument timeline label
	if [ -e "$PGDATA/global/pg_control" ]; then
		if [ ! -e "$PGDATA/recovery.signal" ]; then
			# It must not cause this data to be deleted later.
			rm -f "$RECOVERING"
			return
		fi
		if [ ! -e "$RECOVERING" ] || cmp -s "$RECOVERING" /run/recover; then return; fi
	elif [ ! -e "$PGDATA/backup.manifest" ] && [ ! -e "$RECOVERING" ] && [ -n "$(ls -A "$PGDATA" 2>/dev/null)" ]; then
		fail "$PGDATA holds something that is no PostgreSQL data; nothing is restored over it"
	fi
	recover_check_system "$1"
	cp /run/recover "$RECOVERING"
	rm -f "$VOLUME/undone"
	rm -rf "$PGDATA"
	mkdir -m 0700 "$PGDATA"
	chown postgres "$PGDATA" "$VOLUME"
	# Everything that this server writes belongs in the repository, from its first record on.
	: >"$ARCHIVING_BEGAN"
	{
		read -r moment
		set --
		while IFS= read -r argument; do set -- "$@" "$argument"; done
	} </run/recover
	timeline=$(note_timeline_at "$moment" </tmp/timelines)
	if [ -n "$timeline" ]; then
		label=$(repository_leading_backup "$timeline" "$moment" /tmp/timelines)
		[ -n "$label" ] || {
			# With a wrong key pgBackRest lists no backup, and says why.
			pgb info 2>&1 | tr -cd '\011\012\040-\176' | head -n 5 >&2
			echo "FATAL: the data could not be restored from the repository: no backup leads to that time, on timeline $timeline" >&2
			exit 1
		}
		set -- "$@" "--target-timeline=$timeline" "--set=$label"
	fi
	echo "restoring the data from the repository" >&2
	pgb restore --log-level-console=info --recovery-option="restore_command=$RESTORE_COMMAND" "$@" || {
		echo "FATAL: the data could not be restored from the repository" >&2
		exit 1
	}
}

# recover_check_system SYSTEM: refuses backups that were made on another operating system. Leaves the timelines' notes in /tmp/timelines.
recover_check_system() {
	local recorded
	if ! recorded=$(repository_note "${MADE_ON##*/}") || ! repository_note timelines >/tmp/timelines; then
		echo "FATAL: the data could not be restored from the repository: that cannot be read" >&2
		exit 1
	fi
	if [ -n "$recorded" ] && [ "$recorded" != "$1" ]; then
		echo "FATAL: the data in the backups was made on $recorded, this image is $1: text would be sorted by other rules than its" \
			"indexes were. Set baseImage to an image on $recorded" >&2
		exit 1
	fi
}

# recover_share_histories FOLDER: copies to a data directory the histories of all timelines that other data in the volume knows.
recover_share_histories() {
	local history copy
	for history in "$VOLUME"/pgdata*/pg_wal/*.history; do
		copy=$1/pg_wal/${history##*/}
		if [ ! -e "$history" ] || [ -e "$copy" ]; then continue; fi
		if ! cp "$history" "$copy.partial" || ! chown postgres "$copy.partial" || ! mv "$copy.partial" "$copy"; then
			fail "$copy cannot be written"
		fi
	done
}
