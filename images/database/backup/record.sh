# shellcheck shell=dash
# The record of a backup: the fingerprints of every table at one point of the WAL after the backup.

# record_fingerprints ARGUMENTS FOR PSQL...: prints a line for every table of every database, of a server without other sessions.
record_fingerprints() {
	local database
	server_databases "$@" >/tmp/databases || return 1
	while IFS= read -r database; do
		sql "$@" -d "$(named "$database")" -v role=alone -f "$SHARE/fingerprints.sql" </dev/null || return 1
	done </tmp/databases
}

# record_count_tables FILE: prints how many of the user's tables are among fingerprints, and their rows, as `tables N` and `rows N`.
# Snapshots, branches and migration backups are copies of them; the stack's own schema and large objects are no tables of the user's.
record_count_tables() {
	awk -F '\t' '
		$1 ~ /^(save|branch)__/ || $1 ~ /^[^ ]*(_before_migration_?|_former_migration|_undone|_import|_import_check) / { next }
		$1 ~ / sectorwars_stack\./ || $1 ~ / pg_largeobject(_metadata)?$/ { next }
		{ n++; rows += $2 }
		END { printf "tables %d\nrows %.0f\n", n, rows }' "$1"
}

# record_fingerprints_at POINT: prints the same while others write, at a restore point that it makes. Each database has a session.
record_fingerprints_at() {
	local count processes role database watcher failed process number
	export MEETING="$STATE/meeting"
	rm -rf "$MEETING"
	as_postgres mkdir -p -m 0700 "$MEETING"
	server_databases >"$MEETING/databases" || return 1
	FOLLOWING=$(($(wc -l <"$MEETING/databases") - 1))
	export FOLLOWING
	count=0
	processes=
	role=leading
	while IFS= read -r database; do
		count=$((count + 1))
		{
			export PGAPPNAME="$RECORDING"
			sql -d "$(named "$database")" -v role="$role" -v point="$1" -f "$SHARE/fingerprints.sql" </dev/null || {
				touch "$MEETING/failed"
				exit 1
			}
		} >"$MEETING/$count.rows" 2>"$MEETING/$count.said" &
		processes="$processes $!"
		role=following
	done <"$MEETING/databases"
	record_make_way "$RUN_PROCESS" >/dev/null 2>&1 9>&- &
	watcher=$!
	failed=no
	for process in $processes; do wait "$process" || failed=yes; done
	kill "$watcher" 2>/dev/null || :
	cat "$MEETING"/*.said >&2
	[ "$failed" = no ] || return 1
	# A database that was made or dropped in the meantime would be missing here or there.
	server_databases | cmp -s - "$MEETING/databases" || return 1
	seq "$count" | while read -r number; do cat "$MEETING/$number.rows"; done
	rm -rf "$MEETING"
}

# record_make_way PROCESS: while a process runs, ends the counting if another session has waited for one of its tables for a second, for
# instance to alter it. The counting then begins again.
record_make_way() {
	while sleep 1 && [ -d "/proc/$1" ]; do
		sql -c "SELECT pg_terminate_backend(a.pid) FROM pg_locks l, unnest(pg_blocking_pids(l.pid)) b (pid) JOIN pg_stat_activity a USING (pid)
			WHERE NOT l.granted AND l.waitstart < clock_timestamp() - interval '1 s' AND a.application_name = '$RECORDING'" >/dev/null 2>&1 || :
	done
}

# record_await_sessions leading|following: waits for the sessions of the other databases while fingerprints.sql holds its locks, for one
# second at most. Prints yes or no, for psql.
record_await_sessions() {
	local waited
	waited=0
	[ "$1" = leading ] || : >"$MEETING/locked.$$"
	until record_sessions_are_ready "$1"; do
		waited=$((waited + 1))
		if [ -e "$MEETING/failed" ] || [ "$waited" -gt 40 ]; then
			echo no
			return
		fi
		sleep 0.02
	done
	echo yes
}

# record_sessions_are_ready ROLE: a following session waits for the restore point, the leading one for the locks of all others.
record_sessions_are_ready() {
	if [ "$1" = following ]; then
		[ -e "$MEETING/made" ]
	else
		[ "$(find "$MEETING" -name 'locked.*' | wc -l)" -ge "$FOLLOWING" ]
	fi
}

# record_make NAME LABEL: records the fingerprints of every table at a restore point after a backup, so that a drill can compare exactly.
record_make() {
	local tries point identity rows file timeline waited
	# The owner of a database can block connections to it. Snapshots are blocked on purpose, and nothing else.
	if sql -c "SELECT datname FROM pg_database WHERE NOT datallowconn" 2>/dev/null | grep -qxF "${BACKUP_DATABASE:-}"; then
		echo "error: the database $BACKUP_DATABASE accepts no connections: ALTER DATABASE ... ALLOW_CONNECTIONS true" >"$OUTPUT.record"
		return 1
	fi
	tries=0
	while :; do
		# If two restore points have one name, a recovery ends at the first.
		point="${1}_$(now)_$tries"
		identity=$(server_identity 2>/dev/null) || identity=
		if rows=$(record_fingerprints_at "$point" 2>"$OUTPUT.record"); then break; fi
		tries=$((tries + 1))
		# A damaged page is still damaged the next time.
		if grep -q 'invalid page in block' "$OUTPUT.record"; then return 1; fi
		# Waiting longer for a transaction that writes would make everyone else wait too.
		if [ "$tries" -ge 12 ]; then return 1; fi
		sleep "$((tries * tries / 4 + 1))"
	done
	file=$(sql -c "SELECT pg_walfile_name(pg_switch_wal())")
	timeline=${identity%%|*}
	# A restore point on one timeline cannot be reached from a backup of another.
	if [ "$timeline" != "$(repository_timeline "$2")" ] || [ "$(server_identity)" != "$identity" ]; then
		echo "a restore exchanged the data after the backup began; a backup of the present data is needed" >"$OUTPUT.record"
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
	# Half a record would look like damage.
	if ! printf '%s\n%s\n%s\n' "$point" "$((0x$timeline))" "$rows" >"$STATE/records/$1.partial" || ! sync ||
		! mv "$STATE/records/$1.partial" "$STATE/records/$1"; then
		echo "error: the record cannot be written" >"$OUTPUT.record"
		return 1
	fi
}

# Copies the records to the repository, so that a backup can be checked where nothing else is left. They are encrypted as the backups are.
# Each ends with a checksum, because damaged ciphertext is decrypted to another text without an error. Removes the records of backups
# that are gone.
record_share() {
	local labels shared label
	labels=$(repository_labels)
	# If the repository cannot be read, nothing is removed.
	[ -n "$labels" ] || return 0
	shared=$(pgb repo-ls records 2>/dev/null) || shared=
	for label in $(ls "$STATE/records") $shared; do
		if ! printf '%s\n' "$labels" | grep -qxF "$label"; then
			rm -f "$STATE/records/$label"
			if printf '%s\n' "$shared" | grep -qxF "$label"; then pgb repo-rm "records/$label" || :; fi
		elif [ -e "$STATE/records/$label" ] && ! printf '%s\n' "$shared" | grep -qxF "$label"; then
			{ cat "$STATE/records/$label" && sha1sum <"$STATE/records/$label"; } | pgb repo-put "records/$label" || :
		fi
	done
}

# record_fetch LABEL: fetches a record from the repository, unless it is here. pgBackRest encrypts such a file by itself, but needs to know
# the key to decrypt it. The environment passes the key, which only those can read who may read the configuration.
record_fetch() {
	[ ! -s "$STATE/records/$1" ] || return 0
	(
		PGBACKREST_CIPHER_PASS=$(sed -n 's/^repo1-cipher-pass=//p' /etc/pgbackrest/pgbackrest.conf)
		export PGBACKREST_CIPHER_PASS
		pgb repo-get "records/$1" 2>/dev/null
	) >"$OUTPUT.fetched" || return 1
	sed '$d' "$OUTPUT.fetched" >"$STATE/records/$1.partial" || return 1
	if [ "$(sha1sum <"$STATE/records/$1.partial")" != "$(tail -n 1 "$OUTPUT.fetched")" ]; then
		rm -f "$STATE/records/$1.partial"
		return 1
	fi
	mv "$STATE/records/$1.partial" "$STATE/records/$1"
}
