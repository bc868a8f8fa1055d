/** What lies in clear in a safety copy: how to restore it with standard tools alone. Neither text knows anything of the source. */

/** The script that restores a copy by hand. */
export const RESTORE_SCRIPT = `#!/bin/sh
# Restores this safety copy into a database that exists and is empty, with age, zstd and psql alone.
#
#   createdb rescued
#   PGDATABASE=rescued ./restore.sh ~/.config/sectorwars/age-identity.txt
#
# psql finds the server by the usual variables (PGHOST, PGPORT, PGUSER, PGPASSWORD). Extensions may need a superuser.
# Should it stop half-way: drop the database, and begin anew.
set -eu

if [ $# -ne 1 ] || [ ! -r "$1" ]; then
	echo "usage: PGDATABASE=NAME $0 IDENTITY_FILE" >&2
	exit 2
fi
identity=$(cd "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
cd "$(dirname -- "$0")"
sha256sum -c checksums.txt >/dev/null

# A pipe's exit code is its last command's alone; what goes wrong before that leaves a mark.
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
	[ "$said" = "COPY $rows" ] || { echo "$file: $rows rows were expected, psql said $said" >&2; exit 1; }
done <"$failed.tsv"
if [ -e large-objects.sql.zst.age ]; then
	run large-objects
fi
run 4-after-rows
run 5-finish
psql -X -q -c "SET client_min_messages = error" -c ANALYZE
echo "restored"
`;

/** Says what the folder is. */
export const README = `A safety copy of a database, made while it was imported.

  checksums.txt            SHA-256 of every file here:  sha256sum -c checksums.txt
  restore.sh               restores all of it with age, zstd and psql
  manifest.json.zst.age    what is in it: tables, columns, rows, SHA-256 of each table's data, sequences
  1- to 5-*.sql.zst.age    the schema as SQL, in the order in which it is run; the rows come between 3 and 4
  tables.tsv.zst.age       one line a table: its file, its rows, the COPY that loads it
  large-objects.sql.zst.age  large objects as SQL, where there are any
  tables/*.copy.zst.age    the rows of a table, as PostgreSQL's COPY wrote them

Everything that ends in .age is encrypted (https://age-encryption.org) and opens with one identity file only, which is not here.
Look into a file with:

  age -d -i IDENTITY_FILE manifest.json.zst.age | zstd -d

Owners, privileges and publications are not part of it.
`;
