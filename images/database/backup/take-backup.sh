# shellcheck shell=dash
# Takes a backup.

# Makes a differential backup when pgBackRest refuses a full one, because that would have an earlier name than the last one.
backup_instead_of_full() {
	pgb --type=diff --no-expire-auto backup >"$OUTPUT.diff" 2>&1 || return 0
	echo "error: the clock was moved back to a time before the last backup: this backup is differential, full ones follow after that time" >>"$OUTPUT"
}

# backup_copy_files KIND: runs pgBackRest. If the server ends meanwhile, pgBackRest (2.45) and its own processes may wait for each other
# for half an hour, so this function ends pgBackRest.
backup_copy_files() {
	local started copying watcher code
	started=$(server_start_time) || started=
	pgb --type="$1" --no-expire-auto backup >"$OUTPUT" 2>&1 &
	copying=$!
	backup_watch_server "$copying" "$started" >/dev/null 2>&1 9>&- &
	watcher=$!
	code=0
	wait "$copying" || code=$?
	kill "$watcher" 2>/dev/null || :
	return "$code"
}

# backup_watch_server PROCESS START-TIME: ends the backup if for ten seconds the server did not answer, or had another start time.
backup_watch_server() {
	local missed answer
	[ -n "$2" ] || return 0
	missed=0
	while sleep 2 && [ -d "/proc/$1" ]; do
		answer=$(server_start_time) || :
		case $answer in
		# A server that has no connection left runs.
		"$2" | *'too many clients'* | *'connection slots'*) missed=0 ;;
		20[0-9][0-9]-* | *'connection to server'*) missed=$((missed + 1)) ;;
		esac
		[ "$missed" -lt 5 ] || backup_end
	done
}

# Ends pgBackRest's processes.
backup_end() {
	local process
	echo "ERROR: the server went away while its files were copied" >>"$OUTPUT"
	for process in /proc/[0-9]*; do
		case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") in
		pgbackrest*' backup '* | pgbackrest*backup:local*) kill -9 "${process#/proc/}" 2>/dev/null || : ;;
		esac
	done
}

# backup_take KIND: takes a backup and records its content. Leaves the details of the run in RUN_DETAILS. Fails with 2 if the backup was
# made, but contains damaged pages.
backup_take() {
	local gaps request newest label
	server_await
	gaps=$(note_open_gaps)
	request=$(note_full_backup_request)
	# Waits until no database is being copied by its files.
	sql -c "SELECT pg_advisory_lock($BACKUP_LOCK)" >/dev/null 2>&1 || :
	if [ -n "$gaps" ]; then archive_push_histories >/dev/null 2>&1; fi
	case $1 in full) progress "copying every file" ;; *) progress "copying what has changed since the full backup" ;; esac
	if ! backup_copy_files "$1"; then
		if [ "$1" = full ] && grep -q 'is not later than latest backup label' "$OUTPUT"; then backup_instead_of_full; fi
		return 1
	fi
	newest=$(repository_backups | tail -n 1 | cut -d ' ' -f 1,2)
	label=${newest%% *}
	if [ -z "$label" ]; then
		# Only the label shows whether it is a full backup, which would close a gap.
		echo "error: the backup was made, but the repository does not list it" >"$OUTPUT"
		return 1
	fi
	RUN_DETAILS="\"label\":$(json "$label"),\"bytes\":$(repository_bytes "$label")"
	if [ "${newest##* }" = damaged ]; then
		# No sound data can be restored from it, so it closes no gap and fulfils no request, and retention removes no other backup for it.
		RUN_DETAILS="$RUN_DETAILS,\"damaged\":true,\"recorded\":false"
		echo "error: the backup $label holds damaged pages: $(repository_damaged_files "$label" | head -n 3 | awk -F '\t' '
			{ printf "%s%s%s", between, $1, $2 == "" ? "" : " at pages " $2; between = "; " }'). ./db status tells which tables those are" >"$OUTPUT"
		return 2
	fi
	# Removes what retention does not need, unless a drill has found damage: the last sound backup might be among it. The newest one stays.
	if ! damage_is_known drill; then pgb expire >"$OUTPUT" 2>&1 || return 1; fi
	progress "recording the fingerprints of every table"
	if record_make "$label" "$label"; then
		RUN_DETAILS="$RUN_DETAILS,\"recorded\":true"
	else
		damage_add_unreadable "$label" "$OUTPUT.record"
		RUN_DETAILS="$RUN_DETAILS,\"recorded\":false,\"warning\":$(json "the fingerprints of its tables were not recorded: $(error_in "$OUTPUT.record")")"
	fi
	case $label in
	*_*) ;;
	*) backup_full_is_made "$label" "$gaps" "$request" ;;
	esac
	note_share
	record_share
}

# backup_full_is_made LABEL GAPS REQUEST: closes the gaps that were open when a full backup began, and fulfils the request of that time.
backup_full_is_made() {
	if [ "$(note_full_backup_request)" = "$3" ]; then rm -f "$STATE/full.wanted"; fi
	if [ -n "$2" ]; then
		printf '%s\n' "$2" | awk -v until="$1" -v closed="$(now)" '
			NR == 1 { from = $1; first = $2 } { last = $2 } END { print from, closed, first, last, until }' >>"$STATE/gaps"
	fi
	note_write "$STATE/diff.slot" "$(schedule_slot diff)"
}
