#!/bin/sh
# Starts the server. Before that: ends an exchange of the data that was begun (a restore, or its undoing), and refuses data
# that was made on another operating system: C libraries sort text differently, and an index that was built by other rules
# answers wrongly without any error.
set -eu

volume=/var/lib/postgresql/data
# Seconds for which a request to exchange the data counts. One that nobody came to carry out must not act a week later.
REQUEST_LASTS=600

fatal() {
	printf 'FATAL: %s\n' "$*" >&2
	exit 1
}

# The note says: NEXT KEPT EPOCH. The data becomes KEPT and NEXT becomes the data: two renames, which the next start goes on
# with wherever this one is cut short.
exchange_data() {
	read -r next kept asked <"$volume/exchange" || fatal "the note $volume/exchange is not whole; remove it"
	if [ -d "$volume/$next" ]; then
		if [ -d "$PGDATA" ] && [ "$(($(date +%s) - asked))" -gt "$REQUEST_LASTS" ]; then
			echo "A request to exchange the data for $next was never carried out, and is too old now: ignored" >&2
		else
			if [ -d "$PGDATA" ]; then
				[ ! -e "$volume/$kept" ] || fatal "$volume/$kept is there already"
				mv "$PGDATA" "$volume/$kept"
			fi
			mv "$volume/$next" "$PGDATA"
			sync
			echo "The data was exchanged for $next; the former is kept as $kept" >&2
		fi
	fi
	rm -f "$volume/exchange"
}

# A server that does not archive, on data whose repository may be kept, leaves a gap in that: from the last file on that is in it,
# until a full backup closes it. It is noted as WAL that was given up is (sectorwars-backup).
note_gap() {
	since=$(stat -c %Y "$volume/archived-until" 2>/dev/null || date +%s)
	case $(tail -n 1 "$volume/archiving-gaps" 2>/dev/null) in "$since off-"*) return ;; esac
	echo "$since off-$(date +%s)" >>"$volume/archiving-gaps" &&
		chown postgres "$volume/archiving-gaps"
}

if [ "${1:-}" = postgres ]; then
	# shellcheck source=/dev/null
	here=$(. /etc/os-release && echo "$ID ${VERSION_ID%%.*}")
	# musl sorts by bytes in every release.
	case $here in alpine*) here=alpine ;; esac
	note=$volume/made-on
	if [ -s "$note" ] && [ "$(cat "$note")" != "$here" ]; then
		echo "FATAL: the data in this volume was made on $(cat "$note"), this image is $here: text would be sorted by other" >&2
		echo "rules than its indexes were. Set baseImage to an image on $(cat "$note"), or reset the stack." >&2
		exit 1
	fi
	if [ -e "$volume/exchange" ]; then exchange_data; fi
	# A new cluster in place of one that was put aside would look like lost data.
	if [ ! -d "$PGDATA" ]; then
		for other in "$volume"/pgdata.*; do
			[ -e "$other/PG_VERSION" ] && fatal "$PGDATA is not there, but ${other##*/} is. Rename the one that is wanted to pgdata"
		done
	fi
	[ -s "$note" ] || echo "$here" >"$note"
	if [ -e /run/pgbackrest.conf ]; then
		sectorwars-backup prepare
		if [ -e /run/recover ]; then sectorwars-backup recover; fi
	elif [ -e "$volume/archiving-began" ] || [ -e "$volume/archived-until" ]; then
		note_gap || echo "WARNING: a gap in the backups could not be noted in $volume" >&2
	fi
fi
exec docker-entrypoint.sh "$@"
