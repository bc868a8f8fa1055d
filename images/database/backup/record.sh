# What every table holds at one point of the log, written down behind each backup.
# shellcheck shell=sh

# databases [ARGUMENTS FOR PSQL]: all that can hold anything of anybody's. Whether one is a template does not count: its owner can say so.
databases() {
	sql "$@" -c "SELECT datname FROM pg_database WHERE datallowconn AND datname NOT IN ('template0', 'template1') AND datconnlimit <> $INVALID
		ORDER BY datname COLLATE \"C\""
}

# fingerprints ARGUMENTS FOR PSQL...: a line for every table of every database, where nobody writes.
fingerprints() {
	databases "$@" >/tmp/databases || return 1
	while IFS= read -r database; do
		sql "$@" -d "$(named "$database")" -v role=alone -f "$SHARE/fingerprints.sql" </dev/null || return 1
	done </tmp/databases
}

# count_tables FILE: the user's tables among fingerprints, and their rows, as `tables N` and `rows N`. Snapshots, branches and migration
# backups are copies of them; the stack's own schema and large objects are no tables of the user's.
count_tables() {
	awk -F '\t' '
		$1 ~ /^(save|branch)__/ || $1 ~ /^[^ ]*(_before_migration_?|_former_migration|_undone|_import|_import_check) / { next }
		$1 ~ / sectorwars_stack\./ || $1 ~ / pg_largeobject(_metadata)?$/ { next }
		{ n++; rows += $2 }
		END { printf "tables %d\nrows %.0f\n", n, rows }' "$1"
}

# fingerprints_at POINT: the same while others write, at a restore point that is made for it: a session for each database.
fingerprints_at() {
	export MEETING="$STATE/meeting"
	rm -rf "$MEETING"
	as_postgres mkdir -p -m 0700 "$MEETING"
	databases >"$MEETING/databases" || return 1
	FOLLOWING=$(($(wc -l <"$MEETING/databases") - 1))
	export FOLLOWING
	sessions=0
	sessions_running=
	role=leading
	while IFS= read -r database; do
		sessions=$((sessions + 1))
		{
			export PGAPPNAME="$RECORDING"
			sql -d "$(named "$database")" -v role="$role" -v point="$1" -f "$SHARE/fingerprints.sql" </dev/null || {
				touch "$MEETING/failed"
				exit 1
			}
		} >"$MEETING/$sessions.rows" 2>"$MEETING/$sessions.said" &
		sessions_running="$sessions_running $!"
		role=following
	done <"$MEETING/databases"
	make_way >/dev/null 2>&1 9>&- &
	watcher=$!
	failed=no
	for session in $sessions_running; do wait "$session" || failed=yes; done
	kill "$watcher" 2>/dev/null || :
	cat "$MEETING"/*.said >&2
	[ "$failed" = no ] || return 1
	# One that was made or dropped meanwhile would be missing here or there.
	databases | cmp -s - "$MEETING/databases" || return 1
	seq "$sessions" | while read -r session; do cat "$MEETING/$session.rows"; done
	rm -rf "$MEETING"
}

# Whoever has to wait for a table that is being counted, to alter it for one, gets it after a second; the counting begins anew.
make_way() {
	while sleep 1 && [ -d "/proc/$self" ]; do
		sql -c "SELECT pg_terminate_backend(a.pid) FROM pg_locks l, unnest(pg_blocking_pids(l.pid)) b (pid) JOIN pg_stat_activity a USING (pid)
			WHERE NOT l.granted AND l.waitstart < clock_timestamp() - interval '1 s' AND a.application_name = '$RECORDING'" >/dev/null 2>&1 || :
	done
}

# meet leading|following: what fingerprints.sql waits for while it holds its locks, a second at most; yes or no, for psql.
meet() {
	waited=0
	[ "$1" = leading ] || : >"$MEETING/locked.$$"
	until has_met "$1"; do
		waited=$((waited + 1))
		if [ -e "$MEETING/failed" ] || [ "$waited" -gt 40 ]; then
			echo no
			return
		fi
		sleep 0.02
	done
	echo yes
}

has_met() {
	if [ "$1" = following ]; then [ -e "$MEETING/made" ]
	else [ "$(find "$MEETING" -name 'locked.*' | wc -l)" -ge "$FOLLOWING" ]; fi
}

# timeline_of LABEL: the timeline on which a backup ended, as WAL files' names begin.
timeline_of() {
	pgb info --output=json | grep -oE '"(stop|label)":"[^"]*"' | cut -d '"' -f 4 |
		awk -v label="$1" '$0 == label { print substr(stop, 1, 8) } { stop = $0 }'
}

# The server's timeline, and since when it runs: a restore, or its undoing, changes both.
life() { sql -c "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_postmaster_start_time()"; }

# record NAME LABEL: what every table holds at a restore point behind the backup, so that a drill can compare exactly.
record() {
	# Its owner can shut it. Save points, and no others, are meant to be.
	if sql -c "SELECT datname FROM pg_database WHERE NOT datallowconn" 2>/dev/null | grep -qxF "${BACKUP_DATABASE:-}"; then
		echo "error: the database $BACKUP_DATABASE accepts no connections: ALTER DATABASE ... ALLOW_CONNECTIONS true" >"$OUTPUT.record"
		return 1
	fi
	tries=0
	while :; do
		# Of two points of one name, a recovery ends at the first.
		point="${1}_$(now)_$tries"
		life=$(life 2>/dev/null) || life=
		if rows=$(fingerprints_at "$point" 2>"$OUTPUT.record"); then break; fi
		tries=$((tries + 1))
		# A damaged page is no better the next time.
		if grep -q 'invalid page in block' "$OUTPUT.record"; then return 1; fi
		# A transaction that writes for long must not be waited for in front of everybody else.
		if [ "$tries" -ge 12 ]; then return 1; fi
		sleep "$((tries * tries / 4 + 1))"
	done
	file=$(sql -c "SELECT pg_walfile_name(pg_switch_wal())")
	timeline=${life%%|*}
	# A restore point on one timeline cannot be reached from a backup of another.
	if [ "$timeline" != "$(timeline_of "$2")" ] || [ "$(life)" != "$life" ]; then
		echo "the data was exchanged by a restore since the backup was begun; one of the present data is needed" >"$OUTPUT.record"
		return 1
	fi
	waited=0
	until [ "$(sql -c "SELECT coalesce(last_archived_wal, '') COLLATE \"C\" >= '$file' FROM pg_stat_archiver")" = t ]; do
		waited=$((waited + 1))
		if [ "$waited" -gt 120 ]; then
			echo "the WAL file $file was not archived within a minute" >"$OUTPUT.record"
			return 1
		fi
		sleep 0.5
	done
	# Half a record would be taken for damage.
	printf '%s\n%s\n%s\n' "$point" "$((0x$timeline))" "$rows" >"$STATE/records/$1.partial" && sync &&
		mv "$STATE/records/$1.partial" "$STATE/records/$1" || {
		echo "error: the record cannot be written" >"$OUTPUT.record"
		return 1
	}
}
