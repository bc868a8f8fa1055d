# A server aside, for looking at what was restored.
# shellcheck shell=sh

# start_aside FOLDER ARCHIVE_MODE: without network, subscriptions or the settings of big machines, for this user alone.
# With archiving on and no command, the WAL of the new timeline waits for the server that will go on with it.
start_aside() {
	as_postgres mkdir -p -m 0700 "$ASIDE"
	echo 'local all all peer' | as_postgres tee "$ASIDE/hba.conf" >/dev/null
	as_postgres pg_ctl -D "$1" -w -t 1000000 -l "$ASIDE/log" start -o "-c config_file=/etc/postgresql/postgresql.conf \
		-c hba_file=$ASIDE/hba.conf -c listen_addresses='' -c unix_socket_directories=$ASIDE -c port=5432 \
		-c archive_mode=$2 -c archive_command='' -c shared_preload_libraries='' -c hot_standby=off -c shared_buffers=64MB \
		-c max_logical_replication_workers=0 -c autovacuum=off -c log_min_messages=warning -c max_connections=20 -c max_locks_per_transaction=4096" >"$ASIDE/start" 2>&1 9>&- || return 1
	# Started is not recovered: until then it lets nobody in, and a recovery that fails ends it.
	until sql -h "$ASIDE" -c '' >/dev/null 2>&1; do
		as_postgres pg_ctl -D "$1" status >/dev/null 2>&1 || return 1
		sleep 0.2
	done
}

stop_aside() { as_postgres pg_ctl -D "$1" -w -m fast stop >/dev/null 2>&1; }

# control WORDS: what the data's own control file says of something.
control() { LC_ALL=C pg_controldata -D "$VOLUME/pgdata" 2>/dev/null | sed -n "s/^.*$1: *//p" | head -n 1; }

# What a killed run has left: its server first, then its files.
clear_scratch() {
	if [ -e "$SCRATCH/postmaster.pid" ]; then as_postgres pg_ctl -D "$SCRATCH" -m immediate stop >/dev/null 2>&1 || :; fi
	rm -rf "$SCRATCH" "$ASIDE"
}

# prepare_check: see prepare-check.sql. What takes it back is left in /tmp/after-check.N, for the Nth of the databases in /tmp/checked.
prepare_check() {
	rm -f /tmp/after-check.*
	sql -h "$ASIDE" -c "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> $INVALID" >/tmp/checked || return 1
	number=0
	while IFS= read -r database; do
		number=$((number + 1))
		sql -h "$ASIDE" -d "$(named "$database")" -f "$SHARE/prepare-check.sql" </dev/null >"/tmp/after-check.$number" || return 1
	done </tmp/checked
}

# Index expressions run as the owner of their table, without a way to other rights (amcheck does that since PostgreSQL 15).
amcheck() { prepare_check && session pg_amcheck -h "$ASIDE" --all --heapallindexed --install-missing; }
