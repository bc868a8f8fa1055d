# What is known of the backups: notes in the volume with the backups, of which the repository has copies.
# shellcheck shell=sh

number_in() { cat "$1" 2>/dev/null | grep . || echo 0; }

# put FILE TEXT: whole or not at all. On a full disk a note of a failure still reaches the report, from elsewhere.
put() {
	rm -f "$UNWRITTEN/${1##*/}"
	if { printf '%s\n' "$2" >"$1.partial" && mv "$1.partial" "$1"; } 2>/dev/null; then return 0; fi
	rm -f "$1.partial"
	mkdir -p "$UNWRITTEN"
	printf '%s\n' "$2" >"$UNWRITTEN/${1##*/}"
}

# noted FILE: what put has written.
noted() { cat "$UNWRITTEN/${1##*/}" 2>/dev/null || cat "$1" 2>/dev/null; }

forget() { rm -f "$1" "$UNWRITTEN/${1##*/}"; }

# What was given up, or written while backups were off, since the last gap that a full backup has closed: `since file`, a line
# each. By their names and not by their number: the list goes with the data's volume, and with the repository the closed ones.
open_gaps() {
	[ -e "$GAPS" ] || return 0
	awk -v closed="$(tail -n 1 "$STATE/gaps" 2>/dev/null | cut -d ' ' -f 4)" '
		{ line[NR] = $0; if ($2 "" == closed "") last = NR }
		END { for (n = last + 1; n <= NR; n++) print line[n] }' "$GAPS"
}

# A backup that was begun before the wish does not grant it: every wish has a text of its own.
want_full() {
	cat /proc/sys/kernel/random/uuid >"$STATE/full.wanted"
	# One that failed because the server was exchanged under it is no reason to wait.
	forget "$STATE/full.failures"
}

wish() { cat "$STATE/full.wanted" 2>/dev/null || echo none; }
labels() { pgb info --output=json | grep -o '"label":"[^"]*"' | cut -d '"' -f 4; }

# fork_of FOLDER TIMELINE: the timeline it left, and where.
fork_of() {
	awk 'NF { parent = $1; lsn = $2 } END { if (lsn) print parent, lsn; else print "0 0/0" }' \
		"$1/pg_wal/$(printf '%08X' "$2").history" 2>/dev/null || echo "0 0/0"
}

# The timeline that is written to. The control file, and what reads it, knows the former one until the checkpoint behind a recovery.
timeline_now() { sql "$@" -c "SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int"; }

# Which timeline the server is on since when, for whoever asks for a time at which another one was.
note_timeline() {
	timeline=$(timeline_now 2>/dev/null) || return 0
	[ -n "$timeline" ] || return 0
	if [ "$(tail -n 1 "$STATE/timelines" 2>/dev/null | cut -d ' ' -f 2)" = "$timeline" ]; then return 0; fi
	# On another machine the repository alone knows the former ones. Where it cannot be asked, it is asked again later.
	if [ ! -e "$STATE/timelines" ]; then
		for note in gaps timelines; do
			kept_note "$note" >"$STATE/$note.partial" || return 0
			if [ -s "$STATE/$note.partial" ]; then mv "$STATE/$note.partial" "$STATE/$note"; else rm "$STATE/$note.partial"; fi
		done
	fi
	if [ "$(tail -n 1 "$STATE/timelines" 2>/dev/null | cut -d ' ' -f 2)" = "$timeline" ]; then return 0; fi
	# Wherever this is killed: both are done before anybody takes the timeline for known.
	want_full
	touch "$STATE/unshared"
	printf '%s %s %s\n' "$(now)" "$timeline" "$(fork_of "$VOLUME/pgdata" "$timeline")" >>"$STATE/timelines"
	share_notes
}

# A recovery on another machine has nothing but the repository. Positions, times and the system's name are no secrets.
share_notes() {
	for note in "$STATE/timelines" "$STATE/gaps" "$MADE_ON"; do
		if [ -e "$note" ] && ! pgb --raw repo-put "${note##*/}" <"$note"; then
			touch "$STATE/unshared" || :
			return 0
		fi
	done
	rm -f "$STATE/unshared"
}

# So that a backup can be proven where nothing else is left, what it holds lies beside it, encrypted as the backups are, with a sum at
# its end: a damaged text is decrypted to another one without an error.
share_records() {
	labels=$(labels)
	# A repository that cannot be read is no reason to forget anything.
	[ -n "$labels" ] || return 0
	shared=$(pgb repo-ls records 2>/dev/null) || shared=
	for label in $(ls "$STATE/records") $shared; do
		if ! printf '%s\n' "$labels" | grep -qxF "$label"; then
			rm -f "$STATE/records/$label"
			if printf '%s\n' "$shared" | grep -qxF "$label"; then pgb repo-rm "records/$label" || :; fi
		elif [ -e "$STATE/records/$label" ] && ! printf '%s\n' "$shared" | grep -qxF "$label"; then
			{ cat "$STATE/records/$label" && sha1sum <"$STATE/records/$label"; } | pgb repo-put "records/$label" || :
		fi
	done
}

# fetch_record LABEL: from the repository, where it is not known here. pgBackRest encrypts such a file by itself, but wants to be
# told the key to decrypt it; by its environment, which nobody sees who may not read the configuration.
fetch_record() {
	[ ! -s "$STATE/records/$1" ] || return 0
	(
		PGBACKREST_CIPHER_PASS=$(sed -n 's/^repo1-cipher-pass=//p' /etc/pgbackrest/pgbackrest.conf)
		export PGBACKREST_CIPHER_PASS
		pgb repo-get "records/$1" 2>/dev/null
	) >"$OUTPUT.fetched" || return 1
	sed '$d' "$OUTPUT.fetched" >"$STATE/records/$1.partial" || return 1
	if [ "$(sha1sum <"$STATE/records/$1.partial")" != "$(tail -n 1 "$OUTPUT.fetched")" ]; then
		rm -f "$STATE/records/$1.partial"
		return 1
	fi
	mv "$STATE/records/$1.partial" "$STATE/records/$1"
}
