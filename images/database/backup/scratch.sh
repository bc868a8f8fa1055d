# shellcheck shell=dash
# A scratch server, which a drill or a restore starts to examine restored data.

# scratch_start FOLDER ARCHIVE_MODE: starts a server on a data directory, without network, subscriptions or settings for big machines, that
# only this user can connect to. With archiving on and no command, the WAL of the new timeline waits for the server that will use it.
scratch_start() {
	as_postgres mkdir -p -m 0700 "$SCRATCH_RUN"
	echo 'local all all peer' | as_postgres tee "$SCRATCH_RUN/hba.conf" >/dev/null
	as_postgres pg_ctl -D "$1" -w -t 1000000 -l "$SCRATCH_RUN/log" start -o "-c config_file=/etc/postgresql/postgresql.conf \
		-c hba_file=$SCRATCH_RUN/hba.conf -c listen_addresses='' -c unix_socket_directories=$SCRATCH_RUN -c port=5432 \
		-c archive_mode=$2 -c archive_command='' -c shared_preload_libraries='' -c hot_standby=off -c shared_buffers=64MB \
		-c max_logical_replication_workers=0 -c autovacuum=off -c log_min_messages=warning -c max_connections=20 -c max_locks_per_transaction=4096" >"$SCRATCH_RUN/start" 2>&1 9>&- || return 1
	# A started server may still be recovering. It accepts sessions only after the recovery, and exits if the recovery fails.
	until sql -h "$SCRATCH_RUN" -c '' >/dev/null 2>&1; do
		as_postgres pg_ctl -D "$1" status >/dev/null 2>&1 || return 1
		sleep 0.2
	done
}

# scratch_stop FOLDER
scratch_stop() { as_postgres pg_ctl -D "$1" -w -m fast stop >/dev/null 2>&1; }

# Removes the leftovers of a killed run: first its server, then its files.
scratch_clear() {
	if [ -e "$SCRATCH/postmaster.pid" ]; then as_postgres pg_ctl -D "$SCRATCH" -m immediate stop >/dev/null 2>&1 || :; fi
	rm -rf "$SCRATCH" "$SCRATCH_RUN"
}

# Prepares every database for pg_amcheck (prepare-check.sql). The statements that undo this are in /tmp/after-check.N, for the Nth of the
# databases in /tmp/checked.
scratch_prepare_check() {
	local number database
	rm -f /tmp/after-check.*
	sql -h "$SCRATCH_RUN" -c "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> $INVALID_DATABASE" >/tmp/checked || return 1
	number=0
	while IFS= read -r database; do
		number=$((number + 1))
		sql -h "$SCRATCH_RUN" -d "$(named "$database")" -f "$SHARE/prepare-check.sql" </dev/null >"/tmp/after-check.$number" || return 1
	done </tmp/checked
}

# Checks every table and index. Index expressions run as the owner of their table and cannot get other rights (amcheck does that since
# PostgreSQL 15).
scratch_check() { scratch_prepare_check && session pg_amcheck -h "$SCRATCH_RUN" --all --heapallindexed --install-missing; }
