# shellcheck shell=dash
# Restores beside the running data, in a container of its own.

# restore_unsound WORDS: reports damage in the restored data. Ends the restore, unless it was asked to accept damage.
restore_unsound() {
	[ "${RESTORE_UNSOUND:-}" = yes ] || fail "$1. The damage may be older than the recovery target. To restore the data with the damage: --unsound"
	echo "unsound: $1" >&2
	echo "unsound $1"
}

# Undoes the changes that the check made, which do not belong to the data. A check that was cut short has not prepared every database. In
# damaged data that the restore accepts, some of it may fail; the rest is undone.
restore_after_check() {
	local number database
	number=0
	while IFS= read -r database; do
		number=$((number + 1))
		[ -e "/tmp/after-check.$number" ] || continue
		sql -h "$SCRATCH_RUN" -d "$(named "$database")" -v ON_ERROR_STOP=0 -f - <"/tmp/after-check.$number" >"$OUTPUT" 2>&1 || :
		[ ! -s "$OUTPUT" ] || restore_unsound "$(error_in "$OUTPUT")"
	done </tmp/checked
}

# Removes what a failed or stopped restore has left.
restore_clear() {
	scratch_stop "$RESTORE_FOLDER" || :
	rm -rf "$RESTORE_FOLDER"
}

# Prints the commit time of the last recovered transaction, from the server's log.
restore_last_transaction() { grep -ao 'last completed transaction was at log time .*' "$SCRATCH_RUN/log" | tail -n 1; }

# restore_run FOLDER ARGUMENTS...: restores into a folder beside the data, starts a server on it without network, checks all of it, sets
# the current passwords, and stops the server cleanly. Standard input is the configuration, a line "-- SQL --", and SQL to run at the end.
# If it succeeds, the folder can replace the data. If it fails, nothing is left.
restore_run() {
	local last setting
	RESTORE_FOLDER=$VOLUME/$1
	shift
	umask 077
	cat >/run/input
	sed '/^-- SQL --$/,$d' /run/input >/run/pgbackrest.conf
	sed '1,/^-- SQL --$/d' /run/input >/run/last.sql
	rm -f /run/input
	chown postgres /run/last.sql
	archive_prepare
	[ ! -e "$RESTORE_FOLDER" ] || fail "$RESTORE_FOLDER is there already"
	# A tablespace has the same path in both, so recovery would write to the files of the running server.
	[ -z "$(ls -A "$VOLUME/pgdata/pg_tblspc" 2>/dev/null)" ] ||
		fail "the server has a tablespace of its own, so nothing can be restored beside it. Create a new stack from the backups: bootstrap backup"
	trap restore_clear EXIT
	trap 'exit 130' INT TERM
	mkdir -m 0700 "$RESTORE_FOLDER"
	chown postgres "$RESTORE_FOLDER"
	echo "restoring the files" >&2
	pgb restore --pg1-path="$RESTORE_FOLDER" --recovery-option="restore_command=$RESTORE_COMMAND" "$@" >"$OUTPUT" 2>&1 ||
		fail "$(error_in "$OUTPUT")"
	# This volume may know timelines that the archive lacks. The new timeline must not take a number that is in use.
	recover_share_histories "$RESTORE_FOLDER"
	echo "recovering to the recovery target" >&2
	if ! scratch_start "$RESTORE_FOLDER" on; then
		last=$(restore_last_transaction)
		fail "the recovery failed: $(error_in "$SCRATCH_RUN/log")${last:+. The $last}"
	fi
	restore_last_transaction | sed 's/.* log time /last /'
	echo "checking every table and index" >&2
	scratch_check >"$OUTPUT" 2>&1 || restore_unsound "pg_amcheck: $(head -n 3 "$OUTPUT" | tr '\n' ' ')"
	record_fingerprints -h "$SCRATCH_RUN" >/tmp/found 2>"$OUTPUT" || restore_unsound "a table cannot be read: $(error_in "$OUTPUT")"
	record_count_tables /tmp/found
	restore_after_check
	echo "reached $(note_fork "$RESTORE_FOLDER" "$(server_timeline -h "$SCRATCH_RUN")")"
	for setting in restore_command recovery_target recovery_target_time recovery_target_name recovery_target_action \
		recovery_target_timeline; do
		sql -h "$SCRATCH_RUN" -c "ALTER SYSTEM RESET $setting"
	done
	# The backup has the passwords from the time when it was made; the stack's are the same or newer.
	sql -h "$SCRATCH_RUN" -f /run/last.sql >/dev/null || fail "the roles' passwords could not be set"
	scratch_stop "$RESTORE_FOLDER" || fail "the restored server did not stop cleanly"
	sync
	trap - EXIT
}
