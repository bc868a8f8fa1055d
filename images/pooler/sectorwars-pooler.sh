#!/bin/sh
# The pooler: PgBouncer, and the commands with which this project's program controls it through `docker exec`.
#
# usage: sectorwars-pooler serve              waits for the configuration, then runs PgBouncer
#        sectorwars-pooler configure [reconnect]
#                                             reads pgbouncer.ini, a line "-- USERS --" and users.txt from standard input; `reconnect` ends
#                                             the server connections after their transactions, of which there may be too many now
#        sectorwars-pooler hold [DATABASE...] holds the queries to these databases, by default to all; see hold() below
#        sectorwars-pooler resume             ends every hold
#        sectorwars-pooler report             prints version, databases and pools as CSV
#        sectorwars-pooler check              logs in to the server through the pooler
#        sectorwars-pooler healthy            succeeds if PgBouncer answers
set -eu

folder=/etc/pgbouncer
# For the socket of the admin console, and a file held.NUMBER for each process that holds queries.
run=/run/pgbouncer
port=6432
# Seconds that running transactions have to end before a change begins without them.
: "${HOLD_SECONDS:=10}"

# console OPTION...: runs psql on the admin console. PgBouncer admits the user that it runs as without a password.
console() { psql -X -q -h "$run" -p "$port" -U pgbouncer -d pgbouncer "$@"; }

# tables NAME...: prints tables of the console as CSV, with a line "--" between them.
tables() {
	first=yes
	for table in "$@"; do
		[ -n "$first" ] || echo --
		first=
		console --csv -c "SHOW $table"
	done
}

# column TABLE COLUMN CONDITION: prints a column of the rows for which an awk condition on `of` holds: `of["paused"] == 1`.
column() {
	tables "$1" | awk -F , '
		NR == 1 { for (i = 1; i <= NF; i++) at[i] = $i; next }
		{ for (i = 1; i <= NF; i++) of[at[i]] = $i }
		'"$3"' { print of["'"$2"'"] }'
}

serve() {
	# A container that restarts has its configuration. The socket of a killed process would look like a running one.
	rm -f "$run"/held.* "$run/.s.PGSQL.$port" "$run/.s.PGSQL.$port.lock"
	until [ -s "$folder/pgbouncer.ini" ]; do sleep 0.1; done
	exec pgbouncer "$folder/pgbouncer.ini"
}

# Writes each file as a whole, with the password last to be complete: `serve` waits for pgbouncer.ini.
configure() {
	umask 077
	awk -v ini="$folder/pgbouncer.ini.partial" -v users="$folder/users.txt.partial" '
		BEGIN { file = ini; printf "" >ini; printf "" >users }
		$0 == "-- USERS --" { file = users; next }
		{ print >file }'
	mv "$folder/users.txt.partial" "$folder/users.txt"
	mv "$folder/pgbouncer.ini.partial" "$folder/pgbouncer.ini"
	# The first configuration starts PgBouncer, later ones are read by the running one.
	[ -S "$run/.s.PGSQL.$port" ] || return 0
	console -c RELOAD
	if [ "${1:-}" = reconnect ]; then console -c RECONNECT; fi
}

# pause DATABASE: waits until no transaction runs on it. New queries wait from the beginning, also if this fails.
pause() {
	timeout "$HOLD_SECONDS" psql -X -q -h "$run" -p "$port" -U pgbouncer -d pgbouncer -c "PAUSE \"$1\"" ||
		echo "transactions on $1 did not end within $HOLD_SECONDS s" >&2
}

# release HOW DATABASE...: lets queries run again. HOW decides which clients must connect again first: `sessions` all clients of these
# databases, `statements` those with prepared statements, whose result types may have changed; anything else none.
release() {
	how=$1
	shift
	for database in "$@"; do
		case $how in
		sessions)
			# In postgres there are only clients that wait for their passwords to be looked up.
			if [ "$database" != postgres ]; then console -c "KILL \"$database\"" || :; fi
			;;
		statements)
			for client in $(column CLIENTS id 'of["database"] == "'"$database"'" && of["prepared_statements"] > 0'); do
				# It may have left meanwhile.
				console -c "KILL_CLIENT $client" 2>/dev/null || :
			done
			;;
		esac
		console -c "RESUME \"$database\"" || :
	done
}

# with_replicas DATABASE...: prints the databases, and for each the name under which the pooler offers it on the replicas, if it does.
# Prepared statements there become wrong by the same changes.
with_replicas() {
	column DATABASES name 'of["name"] != "pgbouncer"' | awk -v wanted="$*" '
		BEGIN { split(wanted, names, " "); for (i in names) is_wanted[names[i]] = 1 }
		{ name = $0; sub(/_readonly$/, "", name) }
		is_wanted[$0] || is_wanted[name]'
}

# Holds queries, prints `held`, waits for a line on standard input, which is the HOW of release, and then lets queries run again. Standard
# input also ends if the process that asked for the hold is killed, so queries never wait for a change that was given up.
hold() {
	if [ $# = 0 ]; then
		# Names of databases have no spaces (components/server/settings.ts).
		# shellcheck disable=SC2046
		set -- $(column DATABASES name 'of["name"] != "pgbouncer"')
	else
		# shellcheck disable=SC2046
		set -- $(with_replicas "$@")
	fi
	: >"$run/held.$$"
	for database in "$@"; do pause "$database" & done
	wait
	echo held
	how=
	IFS= read -r how || how=
	# `resume` may have ended this hold already, and another one may have begun.
	[ -e "$run/held.$$" ] || return 0
	rm -f "$run/held.$$"
	release "$how" "$@"
	echo released
}

resume() {
	rm -f "$run"/held.*
	# shellcheck disable=SC2046  # several names
	release none $(column DATABASES name 'of["paused"] == 1')
}

# The password is in no argument, and only processes of the same user can read the environment.
check() {
	password=$(sed -n 's/^"sectorwars_pooler" "\(.*\)"$/\1/p' "$folder/users.txt")
	PGPASSWORD=$password PGCONNECT_TIMEOUT=5 psql -X -q -A -t -h 127.0.0.1 -p "$port" -U sectorwars_pooler -d postgres -c 'SELECT 1' >/dev/null
}

command=${1:-serve}
[ $# = 0 ] || shift
case $command in
serve | configure | hold | resume | check) "$command" "$@" ;;
report) tables VERSION DATABASES POOLS ;;
healthy) console -c 'SHOW VERSION' >/dev/null ;;
*)
	echo "error: '$command' is not a command of sectorwars-pooler" >&2
	exit 2
	;;
esac
