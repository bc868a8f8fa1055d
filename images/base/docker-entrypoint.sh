#!/bin/sh
# Starts the server as the official image does. It initialises an empty data directory from POSTGRES_USER, POSTGRES_PASSWORD or
# POSTGRES_PASSWORD_FILE, POSTGRES_DB, POSTGRES_INITDB_ARGS and POSTGRES_HOST_AUTH_METHOD. Then it runs the files in
# /docker-entrypoint-initdb.d (.sh, .sql, .sql.gz, in order of name) on a server that has the container's arguments, but listens only on
# its socket.
set -eu

fail() {
	echo "docker-entrypoint: $*" >&2
	exit 1
}

# from_file NAME: prints the value of the variable NAME, or the content of the file that NAME_FILE names.
from_file() {
	eval "value=\${$1:-} file=\${$1_FILE:-}"
	if [ -n "$value" ] && [ -n "$file" ]; then fail "both $1 and $1_FILE are set; set one"; fi
	if [ -n "$file" ]; then value=$(cat "$file"); fi
	printf '%s' "$value"
}

run_init_files() {
	for file in /docker-entrypoint-initdb.d/*; do
		[ -e "$file" ] || continue
		echo "docker-entrypoint: running $file"
		# shellcheck source=/dev/null  # whatever the image that is built on this one brings
		case $file in
		*.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
		*.sql) psql_init -f "$file" ;;
		*.sql.gz) gunzip -c "$file" | psql_init ;;
		*) echo "docker-entrypoint: ignoring $file" ;;
		esac
	done
}

psql_init() {
	PGHOST='' PGPASSWORD="$password" psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"
}

# quoted WORD...: prints the words in single quotes, as a shell reads them.
quoted() {
	for word in "$@"; do
		printf "'%s' " "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
	done
}

# initialise postgres ARGUMENT...: initialises the data directory and runs the init files.
initialise() {
	shift
	# pg_ctl passes the server's arguments through a shell.
	arguments=$(quoted "$@" -c listen_addresses= -p 5432)
	password=$(from_file POSTGRES_PASSWORD)
	POSTGRES_USER=$(from_file POSTGRES_USER)
	POSTGRES_USER=${POSTGRES_USER:-postgres}
	POSTGRES_DB=$(from_file POSTGRES_DB)
	POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
	export POSTGRES_USER POSTGRES_DB
	method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
	if [ -z "$password" ] && [ "$method" != trust ]; then
		fail "the superuser has no password: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE"
	fi

	# initdb reads the password from a file that only this user can read, because ps shows arguments.
	pwfile=$(mktemp)
	printf '%s\n' "$password" >"$pwfile"
	set -- --username="$POSTGRES_USER"
	if [ -n "$password" ]; then set -- "$@" --pwfile="$pwfile"; fi
	# The official image splits POSTGRES_INITDB_ARGS into words and interprets its quotes too.
	eval 'initdb -D "$PGDATA" "$@" '"${POSTGRES_INITDB_ARGS:-}" || {
		rm -f "$pwfile"
		fail "initdb failed"
	}
	rm -f "$pwfile"
	printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

	PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$arguments" -w start
	if [ "$POSTGRES_DB" != postgres ]; then
		PGHOST='' PGPASSWORD="$password" psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname postgres \
			--set db="$POSTGRES_DB" <<-'SQL'
				CREATE DATABASE :"db";
			SQL
	fi
	run_init_files
	PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
	unset password
	echo "docker-entrypoint: initialised, starting"
}

if [ "${1:-}" = "" ] || [ "${1#-}" != "$1" ]; then set -- postgres "$@"; fi
if [ "$1" = postgres ]; then
	if [ "$(id -u)" = 0 ]; then
		mkdir -p "$PGDATA" /var/run/postgresql
		chmod 0700 "$PGDATA"
		find "$PGDATA" \! -user postgres -exec chown postgres {} +
		exec gosu postgres "$0" "$@"
	fi
	if [ ! -s "$PGDATA/PG_VERSION" ]; then initialise "$@"; fi
fi
exec "$@"
