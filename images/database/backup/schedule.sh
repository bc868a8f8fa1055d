# shellcheck shell=dash
# Starts the backups and drills that are due, one at a time.

# schedule_init [anew]: initialises the repository. Does not initialise a repository that was emptied, unless called with `anew`, and
# never uses the repository of another cluster.
schedule_init() {
	local tries words kind
	archive_prepare
	as_postgres mkdir -p "$STATE/records"
	if [ -e "$ARCHIVING_BEGAN" ] && [ "${1:-}" != anew ] && ! repository_has_archive; then
		fail "the repository is empty, but backups were made there: it was lost or replaced. Bring it back, or start a new one: ./db backup --begin-anew"
	fi
	# With a volume that was kept, a scheduled run may hold pgBackRest's lock (050). It ends at once if the repository is of another cluster.
	tries=0
	until words=$(pgb stanza-create 2>&1); do
		tries=$((tries + 1))
		case $words in *'[050]'*) [ "$tries" -lt 120 ] || fail "$words" ;; *) fail "$words" ;; esac
		sleep 0.5
	done
	archive_push_histories
	# It is not known what was archived since the last backup in the repository.
	note_request_full_backup
	: >"$STATE/initialised"
	for kind in full diff drill; do [ -e "$STATE/$kind.slot" ] || schedule_slot "$kind" >"$STATE/$kind.slot"; done
	note_timeline
}

# schedule_slot KIND: prints the most recent scheduled time, in seconds since 1970; 0 without one.
schedule_slot() {
	local plan minutes hours days months weekdays either
	case $1 in full) plan=${BACKUP_FULL:-} ;; diff) plan=${BACKUP_DIFF:-} ;; drill) plan=${BACKUP_DRILL:-} ;; *) plan= ;; esac
	if [ -z "$plan" ]; then
		echo 0
		return
	fi
	# minutes|hours|days|months|weekdays|either
	printf '%s\n' "$plan" | {
		IFS='|' read -r minutes hours days months weekdays either
		awk -v now="$(now)" -v minutes="$minutes" -v hours="$hours" -v days="$days" -v months="$months" \
			-v weekdays="$weekdays" -v either="$either" -f "$SHARE/due.awk"
	}
}

# schedule_missed KIND: prints the most recent scheduled time (the slot) if no run has succeeded since; else 0.
schedule_missed() {
	local slot done_slot
	slot=$(schedule_slot "$1")
	done_slot=$(note_number "$STATE/$1.slot")
	# The clock was moved back to a time before the recorded slot, so the recorded slot is ignored.
	if [ "$done_slot" -gt "$(now)" ]; then done_slot=0; fi
	if [ "$slot" -gt "$done_slot" ]; then echo "$slot"; else echo 0; fi
}

# schedule_late KIND: prints the seconds for which a run has been overdue; 0 if no run is.
schedule_late() {
	local slot
	slot=$(schedule_missed "$1")
	if [ "$slot" = 0 ]; then echo 0; else echo "$(($(now) - slot))"; fi
}

# schedule_waits KIND: whether a run has failed so recently that the next attempt waits, for 1, 2, 4 ... minutes, at most 6 hours.
schedule_waits() {
	local failures count last wait_for passed
	failures=$(note_read "$STATE/$1.failures")
	[ -n "$failures" ] || return 1
	count=${failures% *} last=${failures#* }
	wait_for=21600
	if [ "$count" -lt "$LONGEST_WAIT_AFTER" ]; then wait_for=$((30 << count)); fi
	# Changes made now can be restored only after this backup succeeds, so the wait is at most 5 minutes.
	if [ "$1" = full ] && [ "$wait_for" -gt 300 ] && ! damage_is_known backup && schedule_needs_full; then wait_for=300; fi
	passed=$(($(now) - last))
	[ "$passed" -ge 0 ] && [ "$passed" -lt "$wait_for" ]
}

# Whether changes made now can be restored only after the next full backup.
schedule_needs_full() { [ -n "$(note_open_gaps)" ] || [ -e "$STATE/full.wanted" ]; }

# schedule_due KIND: whether a run must start now. If slots were missed, for instance while the machine slept, one run makes up for them.
schedule_due() {
	if schedule_waits "$1"; then return 1; fi
	if [ "$1" = full ]; then
		if [ ! -e "$STATE/full.ok" ] || schedule_needs_full; then return 0; fi
	elif [ ! -e "$STATE/full.ok" ]; then
		return 1
	fi
	[ "$(schedule_missed "$1")" != 0 ]
}

# Prints kind and start of the current run. A killed run may have left its note.
schedule_running() {
	local note
	note=$(note_read "$STATE/running") || return 0
	if [ -d "/proc/${note##* }" ]; then echo "${note% *}"; fi
}

# schedule_run KIND: runs a backup or a drill; one at a time. A run that was killed blocks nothing, because the lock ends with its
# processes. On a full disk its notes cannot be written, but its line in the log can.
schedule_run() {
	local kind begin slot code finished failures result
	set +e
	kind=$1
	exec 9>>"$STATE/lock"
	if ! flock -n 9; then
		# shellcheck disable=SC2046  # kind, start and process number
		set -- $(note_read "$STATE/running" || echo "something $(now)")
		echo "error: a run is under way ($1, for $(($(now) - $2)) s)" >&2
		exit 75
	fi
	begin=$(now)
	read -r RUN_PROCESS _ </proc/self/stat
	note_write "$STATE/running" "$kind $begin $RUN_PROCESS"
	slot=$(schedule_slot "$kind")
	RUN_DETAILS=
	code=0
	: >"$OUTPUT"
	if [ "$kind" = drill ]; then
		drill_run || code=1
		scratch_clear
	else
		backup_take "$kind" || code=$?
		damage_look "$(repository_info 2>/dev/null)"
	fi
	finished=$(now)
	RUN_DETAILS="\"finished\":$finished,\"seconds\":$((finished - begin))${RUN_DETAILS:+,$RUN_DETAILS}"
	if [ "$code" = 0 ]; then
		note_write "$STATE/$kind.slot" "$slot"
		note_write "$STATE/$kind.ok" "{$RUN_DETAILS}"
		note_remove "$STATE/$kind.failed"
		note_remove "$STATE/$kind.failures"
		log "\"run\":\"$kind\",\"result\":\"ok\",$RUN_DETAILS"
	else
		failures=$(note_read "$STATE/$kind.failures")
		failures=$((${failures%% *} + 1))
		result=failed
		if [ "$code" = 2 ]; then
			# The next attempt would find the same pages.
			result=damaged code=1 failures=$((failures + LONGEST_WAIT_AFTER))
			note_write "$STATE/$kind.slot" "$slot"
		fi
		note_write "$STATE/$kind.failures" "$failures $finished"
		RUN_DETAILS="$RUN_DETAILS,\"error\":$(json "$(error_in "$OUTPUT")")"
		note_write "$STATE/$kind.failed" "{$RUN_DETAILS}"
		log "\"run\":\"$kind\",\"result\":\"$result\",$RUN_DETAILS"
	fi
	note_remove "$STATE/running"
	exec 9>&-
	return "$code"
}

# Looks at the schedule every few seconds, for as long as the container runs.
schedule_serve() {
	local rounds kind
	# shellcheck disable=SC2034  # common.sh reads it
	SERVING=yes
	archive_prepare
	as_postgres mkdir -p "$STATE/records"
	note_remove "$STATE/running"
	scratch_clear
	trap 'exit 0' TERM INT
	rounds=0
	while :; do
		if [ -e "$STATE/initialised" ]; then
			note_timeline || :
			if [ -e "$STATE/unshared" ]; then note_share; fi
			rounds=$((rounds + 1))
			if [ "$((rounds % ROUNDS_PER_DAMAGE_LOOK))" = 0 ]; then (damage_look "$(repository_info 2>/dev/null)") || :; fi
			for kind in full diff drill; do
				if schedule_due "$kind"; then (schedule_run "$kind") || :; fi &
				wait $! || :
			done
		fi
		sleep "$SCHEDULE_SECONDS" &
		wait $! || :
	done
}
