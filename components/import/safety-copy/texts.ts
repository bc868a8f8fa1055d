/** Unencrypted texts of a safety copy: how to restore it with standard tools. Neither text contains anything about the source. */

/** The script that restores a copy without this program. */
export const RESTORE_SCRIPT = `#!/bin/sh
# Restores this safety copy into an existing, empty database. Needs only age, zstd and psql.
#
#   createdb rescued
#   PGDATABASE=rescued ./restore.sh ~/.config/sectorwars/age-identity.txt
#
# psql finds the server through the usual variables (PGHOST, PGPORT, PGUSER, PGPASSWORD). Extensions may need a superuser.
# If it fails, drop the database and start again.
set -eu

if [ $# -ne 1 ] || [ ! -r "$1" ]; then
	echo "usage: PGDATABASE=NAME $0 IDENTITY_FILE" >&2
	exit 2
fi
identity=$(cd "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
cd "$(dirname -- "$0")"
sha256sum -c checksums.txt >/dev/null

# A pipe's exit code is that of its last command. An earlier command that fails creates a file in $failed.
failed=$(mktemp -d)
trap 'rm -rf "$failed"' EXIT
trap 'exit 130' INT TERM
unsealed() {
	{ age -d -i "$identity" "$1" || : >"$failed/age"; } | { zstd -dc || : >"$failed/zstd"; }
}
whole() {
	[ -z "$(ls "$failed")" ] || { echo "$1 cannot be read" >&2; exit 1; }
}
run() {
	echo "$1"
	unsealed "$1.sql.zst.age" | psql -X -q -v ON_ERROR_STOP=1 --single-transaction -f - >/dev/null
	whole "$1"
}

run 1-schemas
run 2-extensions
run 3-before-rows
unsealed tables.tsv.zst.age >"$failed.tsv"
trap 'rm -rf "$failed" "$failed.tsv"' EXIT
whole tables.tsv
tab=$(printf '\\t')
while IFS="$tab" read -r file rows copy; do
	echo "$copy"
	said=$(unsealed "$file" | psql -X -v ON_ERROR_STOP=1 -c "SET client_encoding = 'UTF8'" -c "$copy" | tail -n 1)
	whole "$file"
	[ "$said" = "COPY $rows" ] || { echo "$file: expected $rows rows, psql reported: $said" >&2; exit 1; }
done <"$failed.tsv"
if [ -e large-objects.sql.zst.age ]; then
	run large-objects
fi
run 4-after-rows
run 5-finish
psql -X -q -c "SET client_min_messages = error" -c ANALYZE
echo "restored"
`;

/** The README of a copy's folder. */
export const README = `A safety copy of a database, made while it was imported.

  checksums.txt            SHA-256 of every file here:  sha256sum -c checksums.txt
  restore.sh               restores everything with age, zstd and psql
  manifest.json.zst.age    the contents: tables, columns, rows, SHA-256 of each table's data, sequences
  1- to 5-*.sql.zst.age    the schema as SQL, in the order in which it runs; the rows are loaded between 3 and 4
  tables.tsv.zst.age       one line for each table: its file, its rows, the COPY that loads it
  large-objects.sql.zst.age  large objects as SQL, if there are any
  tables/*.copy.zst.age    the rows of a table, as PostgreSQL's COPY wrote them

Files that end in .age are encrypted (https://age-encryption.org). Only the identity file opens them, which is not in this folder.
To read a file:

  age -d -i IDENTITY_FILE manifest.json.zst.age | zstd -d

The copy does not contain owners, privileges and publications.
`;
