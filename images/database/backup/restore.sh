# In a container of its own: a restore beside the running data.
# shellcheck shell=sh

# What is wrong with the restored data. It ends the restore, unless the data is wanted as it is.
unsound() {
	[ "${RESTORE_UNSOUND:-}" = yes ] || fail "$1. What is wrong may be older than the moment that was asked for. To have it all the same: --unsound"
	echo "unsound: $1" >&2
	echo "unsound $1"
}

# What the check has changed is no part of the data. A check that was cut short has not come to every database; in damaged data that is
# wanted all the same, taking it back may fail, and what can be taken back is.
after_check() {
	number=0
	while IFS= read -r database; do
		number=$((number + 1))
		[ -e "/tmp/after-check.$number" ] || continue
		sql -h "$ASIDE" -d "$(named "$database")" -v ON_ERROR_STOP=0 -f - <"/tmp/after-check.$number" >/tmp/output 2>&1 || :
		[ ! -s /tmp/output ] || unsound "$(cause /tmp/output)"
	done </tmp/checked
}

# restore_aside FOLDER ARGUMENTS...: restores beside the data, brings the server up without network, checks all of it, sets
# today's passwords, and stops it cleanly. Standard input is the configuration, a line "-- SQL --", and SQL for the end.
# Fails with nothing left, or ends with a folder that can take the data's place.
restore_aside() {
	restored=$VOLUME/$1
	shift
	umask 077
	cat >/run/input
	sed '/^-- SQL --$/,$d' /run/input >/run/pgbackrest.conf
	sed '1,/^-- SQL --$/d' /run/input >/run/last.sql
	rm -f /run/input
	chown postgres /run/last.sql
	prepare
	[ ! -e "$restored" ] || fail "$restored is there already"
	# Its replay would write into the running server's files, which have one path for both.
	[ -z "$(ls -A "$VOLUME/pgdata/pg_tblspc" 2>/dev/null)" ] ||
		fail "the server has a tablespace of its own, beside which nothing can be restored. Begin a new stack from the backups: bootstrap backup"
	trap 'stop_aside "$restored" || :; rm -rf "$restored"' EXIT
	trap 'exit 130' INT TERM
	mkdir -m 0700 "$restored"
	chown postgres "$restored"
	echo "restoring the files" >&2
	pgb restore --pg1-path="$restored" --recovery-option="restore_command=$RESTORE_COMMAND" "$@" >/tmp/output 2>&1 || fail "$(cause /tmp/output)"
	# What this volume knows of timelines that were left, the archive may lack; a number is never taken twice.
	share_histories "$restored"
	echo "recovering up to the time that was asked for" >&2
	if ! start_aside "$restored" on; then
		last=$(grep -ao 'last completed transaction was at log time .*' "$ASIDE/log" | tail -n 1)
		fail "the recovery failed: $(cause "$ASIDE/log")${last:+. The $last}"
	fi
	grep -ao 'last completed transaction was at log time .*' "$ASIDE/log" | tail -n 1 | sed 's/.* log time /last /'
	echo "checking every table and index" >&2
	amcheck >/tmp/output 2>&1 || unsound "pg_amcheck: $(head -n 3 /tmp/output | tr '\n' ' ')"
	fingerprints -h "$ASIDE" >/tmp/found 2>/tmp/output || unsound "a table cannot be read: $(cause /tmp/output)"
	count_tables /tmp/found
	after_check
	echo "reached $(fork_of "$restored" "$(timeline_now -h "$ASIDE")")"
	for setting in restore_command recovery_target recovery_target_time recovery_target_name recovery_target_action \
		recovery_target_timeline; do
		sql -h "$ASIDE" -c "ALTER SYSTEM RESET $setting"
	done
	# Roles' passwords are the backup's; the stack's own are newer, or the same.
	sql -h "$ASIDE" -f /run/last.sql >/dev/null || fail "the roles' passwords could not be set"
	stop_aside "$restored" || fail "the restored server did not stop cleanly"
	sync
	trap - EXIT
}
