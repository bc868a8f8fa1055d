# shellcheck shell=dash
# Reads facts from the server and its data.

# Prints the server's start time. If the server does not answer, prints its error on standard output, and fails.
server_start_time() { sql -c "SELECT pg_postmaster_start_time()" 2>&1; }

# Prints the server's timeline and start time. A restore, or undoing one, changes both.
server_identity() { sql -c "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_postmaster_start_time()"; }

# server_timeline ARGUMENTS FOR PSQL...: prints the number of the timeline that is being written. The control file still has the former
# number until the first checkpoint after a recovery.
server_timeline() { sql "$@" -c "SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int"; }

# server_control_data NAME: prints a value from the data's control file. The server need not run.
server_control_data() { LC_ALL=C pg_controldata -D "$VOLUME/pgdata" 2>/dev/null | sed -n "s/^.*$1: *//p" | head -n 1; }

# server_databases ARGUMENTS FOR PSQL...: prints the databases that can hold data. This includes templates, because the owner of a database
# can declare it a template, but not PostgreSQL's own two.
server_databases() {
	sql "$@" -c "SELECT datname FROM pg_database WHERE datallowconn AND datname NOT IN ('template0', 'template1')
		AND datconnlimit <> $INVALID_DATABASE ORDER BY datname COLLATE \"C\""
}

# Waits until the server accepts sessions. The schedule may begin a backup before the server is up again after an exchange of the data or
# a crash; that backup would count as failed until the next attempt. Waits up to 10 minutes for a server that starts, and up to 30 s
# for one that does not answer at all.
server_await() {
	local tries unanswered answer
	tries=0 unanswered=0
	while [ "$tries" -lt 600 ] && [ "$unanswered" -lt 30 ]; do
		answer=$(server_start_time) || :
		case $answer in
		20[0-9][0-9]-* | *'too many clients'* | *'connection slots'*) return ;;
		*'the database system is'*) ;;
		*) unanswered=$((unanswered + 1)) ;;
		esac
		tries=$((tries + 1))
		sleep 1
	done
}
