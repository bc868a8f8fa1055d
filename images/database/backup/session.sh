# shellcheck shell=dash
# Sessions with the server.

# The options that pin a superuser's settings, in the form of PGOPTIONS. The server's programs have the server's version.
SESSION_OPTIONS=$(awk -v version="$(postgres --version | sed 's/^[^0-9]*\([0-9.]*\).*/\1/')" -f "$SHARE/session.awk" \
	"$SHARE/session-settings" "$SHARE/superuser-settings")

# session PROGRAM ARGUMENTS...: runs a program that connects to the server (psql, pg_amcheck, pg_dump, pgbackrest) as the server's
# user. Every session of the image begins here. The owner of a database can change the settings of the database or the role, but
# these options win over them, so a statement means what it says.
session() { as_postgres env PGOPTIONS="$SESSION_OPTIONS" "$@"; }

pgb() { session pgbackrest --stanza=main "$@"; }
sql() { session psql -X -q -A -t -v ON_ERROR_STOP=1 -d postgres "$@"; }
