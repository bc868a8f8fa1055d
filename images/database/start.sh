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

# Data that comes back by an undo was on its timeline before another one was begun. It does not go on along it: pgBackRest's retention
# takes what is on a lower timeline for older than what is on a higher one, and would remove WAL that is needed. Recovering from
# nothing but itself, the server begins a timeline of its own. Prepared before it becomes the data: it is that with all of this or not at all.
leave_timeline() {
	case $1 in pgdata.before-*) ;; *) return 0 ;; esac
	sectorwars-backup share-histories "$volume/$1"
	timeline_in "$volume/$1" >"$volume/undone"
	touch "$volume/$1/recovery.signal"
	chown postgres "$volume/$1/recovery.signal"
	# It is no recovery from the repository, which may be begun anew.
	rm -f "$volume/recovering"
	sync
}

# The timeline that data is on, by its control file. A server that left one has written the new one there before it lets anybody in.
timeline_in() {
	LC_ALL=C pg_controldata -D "$1" | awk -F : '
		/TimeLineID:/ && /^Latest/ || /^Min recovery ending loc/ && /timeline/ { if ($2 + 0 > timeline) timeline = $2 + 0 }
		END { print timeline + 0 }'
}

# Put back, but killed before it had left its timeline: PostgreSQL removes the signal earlier than that.
goes_on_leaving() {
	[ -e "$volume/undone" ] && [ -e "$PGDATA/global/pg_control" ] && [ "$(timeline_in "$PGDATA")" = "$(cat "$volume/undone")" ]
}

# WAL that waits to be archived goes aside with its data: from there to the next full backup is a gap in the backups.
note_left_behind() {
	for waiting in "$PGDATA"/pg_wal/archive_status/*.ready; do
		if [ -e "$waiting" ]; then note_gap exchanged || fatal "a gap in the backups cannot be noted in $volume: make room there"; fi
		return 0
	done
}

# The note says: NEXT KEPT EPOCH. The data becomes KEPT and NEXT becomes the data: two renames, which the next start goes on
# with wherever this one is cut short.
exchange_data() {
	read -r next kept asked <"$volume/exchange" || fatal "the note $volume/exchange is not whole; remove it"
	if [ -d "$volume/$next" ]; then
		if [ -d "$PGDATA" ] && [ "$(($(date +%s) - asked))" -gt "$REQUEST_LASTS" ]; then
			echo "A request to exchange the data for $next was never carried out, and is too old now: ignored" >&2
		else
			leave_timeline "$next"
			if [ -d "$PGDATA" ]; then
				note_left_behind
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

# note_gap off|exchanged: a server that does not archive, on data whose repository may be kept, leaves a gap in that: from the last
# file on that is in it, until a full backup closes it. It is noted as WAL that was given up is (sectorwars-backup).
note_gap() {
	since=$(stat -c %Y "$volume/archived-until" 2>/dev/null || date +%s)
	case $(tail -n 1 "$volume/archiving-gaps" 2>/dev/null) in "$since $1-"*) return ;; esac
	echo "$since $1-$(date +%s)" >>"$volume/archiving-gaps" &&
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
	if [ -e /run/pgbackrest.conf ]; then
		sectorwars-backup prepare
		if [ -e /run/recover ]; then sectorwars-backup recover "$here"; fi
	elif [ -e "$volume/archiving-began" ] || [ -e "$volume/archived-until" ]; then
		note_gap off || echo "WARNING: a gap in the backups could not be noted in $volume" >&2
	fi
	[ -s "$note" ] || echo "$here" >"$note"
	if goes_on_leaving; then touch "$PGDATA/recovery.signal"; fi
	if [ -e "$PGDATA/recovery.signal" ]; then
		# Whoever reads while it recovers would need as many workers and connections as there were; nobody does.
		set -- "$@" -c hot_standby=off
		if [ -e "$volume/undone" ]; then
			set -- "$@" -c restore_command=false -c recovery_target_timeline=current -c recovery_target_action=promote
			for target in '' _name _time _xid _lsn; do set -- "$@" -c "recovery_target$target="; done
		fi
	elif [ -e "$PGDATA/global/pg_control" ]; then
		# The data is whole: these must never be a reason to do anything to it later.
		rm -f "$volume/undone" "$volume/recovering"
	fi
fi
exec docker-entrypoint.sh "$@"
