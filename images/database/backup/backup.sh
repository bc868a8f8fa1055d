# A backup.
# shellcheck shell=sh

# pgBackRest makes no full backup that would be named earlier than the last one; what it names after that one it does make.
instead_of_full() {
	pgb --type=diff --no-expire-auto backup >"$OUTPUT.diff" 2>&1 || return 0
	echo "error: the clock was moved back behind the last backup's: a differential one was made, full ones follow when it is past that" >>"$OUTPUT"
}

# copy_files KIND: pgBackRest's part of a backup. Where the server ends meanwhile, pgBackRest (2.45) may wait for half an hour for
# processes of its own that wait for it, so it is ended.
copy_files() {
	born=$(born) || born=
	pgb --type="$1" --no-expire-auto backup >"$OUTPUT" 2>&1 &
	copying=$!
	watch_server "$copying" "$born" >/dev/null 2>&1 9>&- &
	watcher=$!
	copied=0
	wait "$copying" || copied=$?
	kill "$watcher" 2>/dev/null || :
	return "$copied"
}

# When the server was started. That fails with words about the server, where it is not there.
born() { sql -c "SELECT pg_postmaster_start_time()" 2>&1; }

# watch_server PROCESS BORN: ends the backup when the server is another one, or none, for ten seconds.
watch_server() {
	[ -n "$2" ] || return 0
	missed=0
	while sleep 2 && [ -d "/proc/$1" ]; do
		said=$(born) || :
		case $said in
		# One that is too busy for one more session lives.
		"$2" | *'too many clients'* | *'connection slots'*) missed=0 ;;
		20[0-9][0-9]-* | *'connection to server'*) missed=$((missed + 1)) ;;
		esac
		[ "$missed" -lt 5 ] || end_backup
	done
}

end_backup() {
	echo "ERROR: the server went away while its files were copied" >>"$OUTPUT"
	for process in /proc/[0-9]*; do
		case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") in
		pgbackrest*' backup '* | pgbackrest*backup:local*) kill -9 "${process#/proc/}" 2>/dev/null || : ;;
		esac
	done
}

# await_server: waits until the server takes sessions. After an exchange of the data or a crash, the schedule may begin a backup before the
# server is up; it would fail, and count as failed until the next try. A server that starts is waited for up to 10 minutes, one that does
# not answer at all up to 30 s.
await_server() {
	tries=0 unanswered=0
	while [ "$tries" -lt 600 ] && [ "$unanswered" -lt 30 ]; do
		said=$(born) || :
		case $said in
		20[0-9][0-9]-* | *'too many clients'* | *'connection slots'*) return ;;
		*'the database system is'*) ;;
		*) unanswered=$((unanswered + 1)) ;;
		esac
		tries=$((tries + 1))
		sleep 1
	done
}

# Fails with 2 where the backup was made, but holds damaged pages.
backup() {
	await_server
	gaps=$(open_gaps)
	wish=$(wish)
	# A database that is being copied by its files is waited for.
	sql -c "SELECT pg_advisory_lock($BACKUP_LOCK)" >/dev/null 2>&1 || :
	if [ -n "$gaps" ]; then push_histories >/dev/null 2>&1; fi
	case $1 in full) tell "copying every file" ;; *) tell "copying what has changed since the full backup" ;; esac
	if ! copy_files "$1"; then
		if [ "$1" = full ] && grep -q 'is not later than latest backup label' "$OUTPUT"; then instead_of_full; fi
		return 1
	fi
	marks=$(marked "$(pgb info --output=json)")
	newest=$(printf '%s\n' "$marks" | tail -n 1)
	label=${newest##* }
	if [ -z "$label" ]; then
		# Without its name nobody knows whether it is a full one, which would close a gap.
		echo "error: the backup was made, but the repository does not list it" >"$OUTPUT"
		return 1
	fi
	if in_store; then bytes=$(pgb info --output=json | grep -o '"repository":{"delta":[0-9]*' | tail -n 1 | grep -o '[0-9]*$')
	else bytes=$(bytes_of "$STORE/repository/backup/main/$label"); fi
	details="\"label\":$(json "$label"),\"bytes\":${bytes:-null}"
	if [ "${newest%% *}" = damaged ]; then
		# It is no way back, so it ends no gap and grants no wish, and nothing goes for it.
		details="$details,\"damaged\":true,\"recorded\":false"
		echo "error: the backup $label holds damaged pages: $(damaged_files "$label" | head -n 3 | awk -F '\t' '
			{ printf "%s%s%s", between, $1, $2 == "" ? "" : " at pages " $2; between = "; " }'). ./db status tells which tables those are" >"$OUTPUT"
		return 2
	fi
	# What is needed no more goes, unless a drill has found damage: the last sound backup might be among that. The newest one never goes.
	if ! known_damage | grep -q '"source":"drill"'; then pgb expire >"$OUTPUT" 2>&1 || return 1; fi
	tell "writing down what every table holds"
	if record "$label" "$label"; then details="$details,\"recorded\":true"
	else
		note_unreadable "$label" "$OUTPUT.record"
		details="$details,\"recorded\":false,\"warning\":$(json "what it holds was not written down: $(cause "$OUTPUT.record")")"
	fi
	case $label in
	*_*) ;;
	*)
		if [ "$(wish)" = "$wish" ]; then rm -f "$STATE/full.wanted"; fi
		if [ -n "$gaps" ]; then
			printf '%s\n' "$gaps" | awk -v until="$label" -v closed="$(now)" '
				NR == 1 { from = $1; first = $2 } { last = $2 } END { print from, closed, first, last, until }' >>"$STATE/gaps"
		fi
		put "$STATE/diff.slot" "$(slot_of diff)"
		;;
	esac
	share_notes
	share_records
}
