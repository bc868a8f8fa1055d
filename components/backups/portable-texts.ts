/** The unencrypted files of a portable copy: how to restore it with standard tools. They contain nothing of the data. */

/** Describes the folder. */
export const README = `A portable copy of databases, made by pg_dump.

  checksums.txt      SHA-256 of every file here:  sha256sum -c checksums.txt
  globals.sql.age    roles, with their passwords' hashes (pg_dumpall --globals-only)
  NAME.dump.age      a database (pg_dump --format=custom), for pg_restore of the same or a newer PostgreSQL
  restore.sh         restores with age and PostgreSQL's own tools

Files that end in .age are encrypted (https://age-encryption.org). Only the matching identity file, which is not in this folder,
decrypts them. To list the content of a database's dump, and to print one table:

  age -d -i IDENTITY_FILE NAME.dump.age | pg_restore --list
  age -d -i IDENTITY_FILE NAME.dump.age | pg_restore --table=TABLE --file=-
`;

/** The script that restores a copy by hand. */
export const RESTORE_SCRIPT = `#!/bin/sh
# Restores this portable copy with age, psql and pg_restore, which connect to the server that PGHOST, PGPORT, PGUSER and
# PGPASSWORD name. Restoring the roles needs a superuser.
#
#   ./restore.sh IDENTITY_FILE                      roles, then every database under its own name: for a new server
#   ./restore.sh IDENTITY_FILE DATABASE NEW_NAME    one database under a new name: for a server that is in use
#
# Nothing is overwritten: a database that exists is an error. Roles that exist stay as they are, and psql reports them.
set -eu

if { [ $# -ne 1 ] && [ $# -ne 3 ]; } || [ ! -r "$1" ]; then
	echo "usage: $0 IDENTITY_FILE [DATABASE NEW_NAME]" >&2
	exit 2
fi
identity=$(cd "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
cd "$(dirname -- "$0")"
sha256sum -c checksums.txt >/dev/null

# The exit code of a pipeline is that of its last command, so a failure of an earlier one is recorded in a file.
failed=$(mktemp)
trap 'rm -f "$failed"' EXIT
trap 'exit 130' INT TERM
opened() { age -d -i "$identity" "$1" || echo "$1" >"$failed"; }
whole() { [ ! -s "$failed" ] || { echo "$1 cannot be read" >&2; exit 1; }; }
# Restores one database in one transaction: all of it, or an empty database.
fill() {
	psql -X -q -d postgres -v ON_ERROR_STOP=1 -c "CREATE DATABASE \\"$2\\" TEMPLATE template0"
	opened "$1.dump.age" | pg_restore --exit-on-error --single-transaction --dbname="$2"
	whole "$1.dump.age"
	echo "$1 is restored as $2"
}

if [ $# -eq 3 ]; then
	fill "$2" "$3"
else
	opened globals.sql.age | psql -X -q -d postgres -f - >/dev/null
	whole globals.sql.age
	for file in *.dump.age; do
		opened "$file" | pg_restore --exit-on-error --create --dbname=postgres
		whole "$file"
		echo "\${file%.dump.age} is restored"
	done
fi
`;
