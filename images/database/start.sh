#!/bin/sh
# shellcheck shell=dash  # `local` is not in POSIX, but in dash, busybox and bash
# Starts the server. Before that it ends an exchange of the data that was begun (a restore, or undoing one), and refuses data that was
# made on another operating system: C libraries sort text differently, and an index that was built by other rules returns wrong
# answers without an error.
set -eu

volume=/var/lib/postgresql/data
# shellcheck source=backup/common.sh
. /usr/local/share/sectorwars/common.sh
# Seconds for which a request to exchange the data is valid. One that was never carried out must not take effect a week later.
request_lasts=600

# leave_timeline FOLDER: prepares data that an undo puts back. It was on its timeline before another one was begun, and must not go on
# along it: pgBackRest's retention takes everything on a lower timeline for older than what is on a higher one, and would remove
# WAL that is needed. The server recovers from the data itself alone, and so begins a new timeline. Prepared before the rename, so
# the switch is all or nothing.
leave_timeline() {
	case $1 in pgdata.before-*) ;; *) return 0 ;; esac
	sectorwars-backup share-histories "$volume/$1"
	timeline_in "$volume/$1" >"$volume/undone"
	touch "$volume/$1/recovery.signal"
	chown postgres "$volume/$1/recovery.signal"
	# This is no recovery from the repository, which may be begun again.
	rm -f "$volume/recovering"
	sync
}

# Whether data that was put back is still on its old timeline: the server was killed before it left that, and PostgreSQL removes the
# signal before then.
is_leaving_timeline() {
	[ -e "$volume/undone" ] && [ -e "$PGDATA/global/pg_control" ] && [ "$(timeline_in "$PGDATA")" = "$(cat "$volume/undone")" ]
}

# WAL that waits to be archived is set apart with its data. From there to the next full backup the backups have a gap.
note_waiting_wal() {
	local waiting
	for waiting in "$PGDATA"/pg_wal/archive_status/*.ready; do
		if [ -e "$waiting" ]; then note_gap exchanged || fatal "a gap in the backups cannot be noted in $volume: make room there"; fi
		return 0
	done
}

# Carries out the request in $volume/exchange, `NEXT KEPT EPOCH`: the data becomes KEPT, and NEXT becomes the data. If the server is killed
# between the two renames, the next start does the rest.
exchange_data() {
	local next kept asked
	read -r next kept asked <"$volume/exchange" || fatal "the note $volume/exchange is not whole; remove it"
	if [ -d "$volume/$next" ]; then
		if [ -d "$PGDATA" ] && [ "$(($(date +%s) - asked))" -gt "$request_lasts" ]; then
			echo "A request to exchange the data for $next was never carried out, and is too old now: ignored" >&2
		else
			leave_timeline "$next"
			if [ -d "$PGDATA" ]; then
				note_waiting_wal
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

# note_gap off|exchanged: a server that does not archive leaves a gap in a repository that may be kept: from the last archived file until a
# full backup closes it. The note has the form of the one for WAL that was dropped (backup/archiving.sh).
note_gap() {
	local since
	since=$(stat -c %Y "$volume/archived-until" 2>/dev/null || date +%s)
	case $(tail -n 1 "$volume/archiving-gaps" 2>/dev/null) in "$since $1-"*) return ;; esac
	echo "$since $1-$(date +%s)" >>"$volume/archiving-gaps" &&
		chown postgres "$volume/archiving-gaps"
}

# Prints the operating system of this image.
operating_system() {
	# shellcheck source=/dev/null  # the image's
	. /etc/os-release
	# musl sorts by bytes in every release.
	case $ID in
	alpine) echo alpine ;;
	*) echo "$ID ${VERSION_ID%%.*}" ;;
	esac
}

if [ "${1:-}" = postgres ]; then
	here=$(operating_system)
	note=$volume/made-on
	if [ -s "$note" ] && [ "$(cat "$note")" != "$here" ]; then
		echo "FATAL: the data in this volume was made on $(cat "$note"), this image is $here: text would be sorted by other" >&2
		echo "rules than its indexes were. Set baseImage to an image on $(cat "$note"), or reset the stack." >&2
		exit 1
	fi
	if [ -e "$volume/exchange" ]; then exchange_data; fi
	# A new cluster in place of data that was renamed would look like lost data.
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
	if is_leaving_timeline; then touch "$PGDATA/recovery.signal"; fi
	if [ -e "$PGDATA/recovery.signal" ]; then
		# With hot standby, recovery needs as many workers and connections as the server once had. No session reads during it.
		set -- "$@" -c hot_standby=off
		if [ -e "$volume/undone" ]; then
			set -- "$@" -c restore_command=false -c recovery_target_timeline=current -c recovery_target_action=promote
			for target in '' _name _time _xid _lsn; do set -- "$@" -c "recovery_target$target="; done
		fi
	elif [ -e "$PGDATA/global/pg_control" ]; then
		# The data is complete. These must never be a reason to change it later.
		rm -f "$volume/undone" "$volume/recovering"
	fi
fi
exec docker-entrypoint.sh "$@"
