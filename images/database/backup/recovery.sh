# In the database's container: an empty volume is filled from the repository before the server's first start.
# shellcheck shell=sh

# Fills an empty volume from the repository before the server's first start. /run/recover holds "latest" or seconds since 1970,
# then arguments for pgBackRest, one a line. pgBackRest writes global/pg_control last: with it the data is whole, without it a
# former run was cut short. As long as recovery.signal is there nobody has written to the data: what cannot be recovered to one
# time may be restored again for another. The argument is the system that this image is made of.
recover() {
	if [ -e "$PGDATA/global/pg_control" ]; then
		if [ ! -e "$PGDATA/recovery.signal" ]; then
			# It must never be a reason to wipe this data later.
			rm -f "$RECOVERING"
			return
		fi
		if [ ! -e "$RECOVERING" ] || cmp -s "$RECOVERING" /run/recover; then return; fi
	elif [ ! -e "$PGDATA/backup.manifest" ] && [ ! -e "$RECOVERING" ] && [ -n "$(ls -A "$PGDATA" 2>/dev/null)" ]; then
		fail "$PGDATA holds something that is no PostgreSQL data; nothing is restored over it"
	fi
	made=$(kept_note "${MADE_ON##*/}") && kept_note timelines >/tmp/timelines || {
		echo "FATAL: the data could not be restored from the repository: that cannot be read" >&2
		exit 1
	}
	if [ -n "$made" ] && [ "$made" != "$1" ]; then
		echo "FATAL: the data in the backups was made on $made, this image is $1: text would be sorted by other rules than its" \
			"indexes were. Set baseImage to an image on $made" >&2
		exit 1
	fi
	cp /run/recover "$RECOVERING"
	rm -f "$VOLUME/undone"
	rm -rf "$PGDATA"
	mkdir -p -m 0700 "$PGDATA"
	chown postgres "$PGDATA" "$VOLUME"
	# What this server writes belongs to the repository from its first record on: no file of it may be thought unneeded.
	: >"$BEGAN"
	{
		read -r moment
		set --
		while IFS= read -r argument; do set -- "$@" "$argument"; done
	} </run/recover
	timeline=$(timeline_at "$moment" </tmp/timelines)
	if [ -n "$timeline" ]; then
		label=$(leading_backup "$timeline" "$moment")
		[ -n "$label" ] || {
			# With another key it lists none, and says why.
			pgb info 2>&1 | tr -cd '\011\012\040-\176' | head -n 5 >&2
			echo "FATAL: the data could not be restored from the repository: no backup leads to that time, on timeline $timeline" >&2
			exit 1
		}
		set -- "$@" "--target-timeline=$timeline" "--set=$label"
	fi
	echo "restoring the data from the repository" >&2
	pgb restore --log-level-console=info --recovery-option="restore_command=$RESTORE_COMMAND" "$@" || {
		echo "FATAL: the data could not be restored from the repository" >&2
		exit 1
	}
}

# kept_note NAME: a note of ours in the repository; nothing where there is none. Fails where that cannot be told.
kept_note() {
	code=0
	pgb --raw repo-get "$1" 2>/tmp/kept-note || code=$?
	case $code in 0 | 55) return 0 ;; esac
	cat /tmp/kept-note >&2
	return 1
}

# The timeline that was the server's own at a moment, by the note on standard input. The one with the highest number need not be
# it: a restore that was undone leaves such a one behind.
timeline_at() {
	awk -v moment="$1" 'NF && (moment == "latest" || $1 <= moment + 0 || !id) { id = $2 } END { if (id) print id }'
}

# leading_backup TIMELINE MOMENT: the newest backup from which a moment on a timeline is reached: pgBackRest would take the newest
# of all, which may be on a timeline that was left. The timelines are in /tmp/timelines.
leading_backup() {
	pgb info --output=json | grep -oE '"archive":\{"start":"[^"]*"|"error":(true|false)|"label":"[^"]*"|"lsn":\{"start":"[^"]*","stop":"[^"]*"|"timestamp":\{"start":[0-9]*,"stop":[0-9]*' |
		tr -d '{"' | awk -F '[:,]' -v wanted="$1" -v moment="$2" -v after="$(cat "$SHARE/reachable-after")" -v notes=/tmp/timelines -f "$SHARE/hex.awk" -f "$SHARE/leading.awk"
}

# share_histories FOLDER: gives data the histories of all timelines that other data in the volume knows.
share_histories() {
	for history in "$VOLUME"/pgdata*/pg_wal/*.history; do
		copy=$1/pg_wal/${history##*/}
		[ -e "$history" ] && [ ! -e "$copy" ] || continue
		cp "$history" "$copy.partial" && chown postgres "$copy.partial" && mv "$copy.partial" "$copy" || fail "$copy cannot be written"
	done
}
