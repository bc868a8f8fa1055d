# shellcheck shell=dash
# Notes about the backups, in their volume. The repository has copies of some.

# note_number FILE: prints the number in a file; 0 if there is none.
note_number() { grep . "$1" 2>/dev/null || echo 0; }

# note_write FILE TEXT: all or nothing. If the disk is full, the note goes elsewhere, so that a failure still reaches the report.
note_write() {
	rm -f "$UNWRITTEN/${1##*/}"
	if { printf '%s\n' "$2" >"$1.partial" && mv "$1.partial" "$1"; } 2>/dev/null; then return 0; fi
	rm -f "$1.partial"
	mkdir -p "$UNWRITTEN"
	printf '%s\n' "$2" >"$UNWRITTEN/${1##*/}"
}

# note_read FILE: prints what note_write has written. Fails if there is no such note.
note_read() { cat "$UNWRITTEN/${1##*/}" 2>/dev/null || cat "$1" 2>/dev/null; }

# note_remove FILE
note_remove() { rm -f "$1" "$UNWRITTEN/${1##*/}"; }

# Prints the gaps since the last one that a full backup has closed, as `since file`, a line each: WAL that was dropped, or written while
# backups were off. A gap is identified by its file name, not by its position: this list is in the data's volume, and the list of
# closed gaps in the volume with the backups.
note_open_gaps() {
	[ -e "$ARCHIVING_GAPS" ] || return 0
	awk -v closed="$(tail -n 1 "$STATE/gaps" 2>/dev/null | cut -d ' ' -f 4)" '
		{ line[NR] = $0; if ($2 "" == closed "") last = NR }
		END { for (n = last + 1; n <= NR; n++) print line[n] }' "$ARCHIVING_GAPS"
}

# Requests a full backup. Each request has a different text, because a backup that began before the request does not fulfil it.
note_request_full_backup() {
	cat /proc/sys/kernel/random/uuid >"$STATE/full.wanted"
	# If a backup failed because the data was exchanged while it ran, the next one need not wait.
	note_remove "$STATE/full.failures"
}

# Prints the request for a full backup, or "none".
note_full_backup_request() { cat "$STATE/full.wanted" 2>/dev/null || echo none; }

# note_fork FOLDER TIMELINE: prints the timeline from which a timeline branched off, and the position.
note_fork() {
	awk 'NF { parent = $1; lsn = $2 } END { if (lsn) print parent, lsn; else print "0 0/0" }' \
		"$1/pg_wal/$(printf '%08X' "$2").history" 2>/dev/null || echo "0 0/0"
}

note_last_timeline() { tail -n 1 "$STATE/timelines" 2>/dev/null | cut -d ' ' -f 2; }

# note_timeline_at MOMENT: prints the timeline that the server was on at a moment, according to the notes on standard input. It need not be
# the one with the highest number, which a restore that was undone leaves behind.
note_timeline_at() {
	awk -v moment="$1" 'NF && (moment == "latest" || $1 <= moment + 0 || !id) { id = $2 } END { if (id) print id }'
}

# Records the time at which the server's timeline began, so that a restore to an earlier time finds the timeline of that time.
note_timeline() {
	local timeline name
	timeline=$(server_timeline 2>/dev/null) || return 0
	[ -n "$timeline" ] || return 0
	if [ "$(note_last_timeline)" = "$timeline" ]; then return 0; fi
	# On another machine only the repository knows the former timelines. If it cannot be read now, the next call tries again.
	if [ ! -e "$STATE/timelines" ]; then
		for name in gaps timelines; do
			repository_note "$name" >"$STATE/$name.partial" || return 0
			if [ -s "$STATE/$name.partial" ]; then
				mv "$STATE/$name.partial" "$STATE/$name"
			else
				rm "$STATE/$name.partial"
			fi
		done
	fi
	if [ "$(note_last_timeline)" = "$timeline" ]; then return 0; fi
	# Wherever this is killed, both are done before the timeline counts as known.
	note_request_full_backup
	touch "$STATE/unshared"
	printf '%s %s %s\n' "$(now)" "$timeline" "$(note_fork "$VOLUME/pgdata" "$timeline")" >>"$STATE/timelines"
	note_share
}

# Copies the notes to the repository, because a recovery on another machine has only the repository. Positions, times and the name of the
# operating system are not secret.
note_share() {
	local note
	for note in "$STATE/timelines" "$STATE/gaps" "$MADE_ON"; do
		if [ -e "$note" ] && ! pgb --raw repo-put "${note##*/}" <"$note"; then
			touch "$STATE/unshared" || :
			return 0
		fi
	done
	rm -f "$STATE/unshared"
}
