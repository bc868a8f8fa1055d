# When something is due, and one run at a time.
# shellcheck shell=sh

# Begins to use the repository. One that was emptied is never begun anew by itself, one of another cluster never used.
init() {
	prepare
	as_postgres mkdir -p "$STATE/records"
	if [ -e "$BEGAN" ] && [ "${1:-}" != anew ] && ! has_archive_info; then
		fail "the repository is empty, but backups were made there: it was lost or replaced. Bring it back, or begin anew with: ./db backup --begin-anew"
	fi
	# A volume that was kept may have its schedule going already: that run ends at once where the repository is not its own.
	tries=0
	until said=$(pgb stanza-create 2>&1); do
		tries=$((tries + 1))
		case $said in *'[050]'*) [ "$tries" -lt 120 ] || fail "$said" ;; *) fail "$said" ;; esac
		sleep 0.5
	done
	push_histories
	# Whatever was in the repository before, nobody knows what was archived since.
	want_full
	: >"$STATE/initialised"
	for kind in full diff drill; do [ -e "$STATE/$kind.slot" ] || slot_of "$kind" >"$STATE/$kind.slot"; done
	note_timeline
}

# The schedule's newest slot for a kind, 0 without one.
slot_of() {
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

# A slot that was missed is made up for once; what failed is tried again after 1, 2, 4 ... minutes, at most 6 hours.
due() {
	failures=$(noted "$STATE/$1.failures")
	if [ -n "$failures" ]; then
		count=${failures% *} last=${failures#* }
		wait_for=21600
		if [ "$count" -lt "$LONGEST_WAIT_AFTER" ]; then wait_for=$((30 << count)); fi
		# As long as it has not succeeded, what is written now cannot be had back.
		if [ "$1" = full ] && [ "$wait_for" -gt 300 ] && ! known_damage | grep -q '"source":"backup"' && { [ -n "$(open_gaps)" ] || [ -e "$STATE/full.wanted" ]; }; then wait_for=300; fi
		passed=$(($(now) - last))
		if [ "$passed" -ge 0 ] && [ "$passed" -lt "$wait_for" ]; then return 1; fi
	fi
	if [ "$1" = full ]; then
		if [ ! -e "$STATE/full.ok" ] || [ -e "$STATE/full.wanted" ]; then return 0; fi
		if [ -n "$(open_gaps)" ]; then return 0; fi
	elif [ ! -e "$STATE/full.ok" ]; then
		return 1
	fi
	done_slot=$(number_in "$STATE/$1.slot")
	# The clock was moved back behind the last one: what it said is worth nothing.
	if [ "$done_slot" -gt "$(now)" ]; then done_slot=0; fi
	[ "$(slot_of "$1")" -gt "$done_slot" ]
}

# Kind and beginning of the run under way. One that was killed may have left its note.
running() {
	note=$(noted "$STATE/running") || return 0
	if [ -d "/proc/${note##* }" ]; then echo "${note% *}"; fi
}

# late KIND: seconds since which a run is due that nobody has begun; 0 where all is as it should be.
late() {
	slot=$(slot_of "$1")
	if [ "$slot" -gt "$(number_in "$STATE/$1.slot")" ]; then echo "$(($(now) - slot))"; else echo 0; fi
}

# run KIND: one at a time, whoever asks. A run that was killed holds nothing: the lock ends with its processes. On a full disk
# its notes cannot be written, but its line in the log can.
run() {
	set +e
	kind=$1
	exec 9>>"$STATE/lock"
	if ! flock -n 9; then
		# shellcheck disable=SC2046
		set -- $(noted "$STATE/running" || echo "something $(now)")
		echo "error: a run is under way ($1, for $(($(now) - $2)) s)" >&2
		exit 75
	fi
	begin=$(now)
	# Not $$, which in a subshell of `serve` is that one's: a run that was killed would count as under way for ever.
	read -r self _ </proc/self/stat
	put "$STATE/running" "$kind $begin $self"
	slot=$(slot_of "$kind")
	details=
	code=0
	: >"$OUTPUT"
	if [ "$kind" = drill ]; then drill || code=1
	else
		backup "$kind" || code=$?
		look_for_damage "$(pgb info --output=json 2>/dev/null)"
	fi
	if [ "$kind" = drill ]; then clear_scratch; fi
	finished=$(now)
	details="\"finished\":$finished,\"seconds\":$((finished - begin))${details:+,$details}"
	if [ "$code" = 0 ]; then
		put "$STATE/$kind.slot" "$slot"
		put "$STATE/$kind.ok" "{$details}"
		forget "$STATE/$kind.failed"
		forget "$STATE/$kind.failures"
		log "\"run\":\"$kind\",\"result\":\"ok\",$details"
	else
		failures=$(noted "$STATE/$kind.failures")
		failures=$((${failures%% *} + 1))
		result=failed
		if [ "$code" = 2 ]; then
			# The next one would find the same pages.
			result=damaged code=1 failures=$((failures + LONGEST_WAIT_AFTER))
			put "$STATE/$kind.slot" "$slot"
		fi
		put "$STATE/$kind.failures" "$failures $finished"
		details="$details,\"error\":$(json "$(cause "$OUTPUT")")"
		put "$STATE/$kind.failed" "{$details}"
		log "\"run\":\"$kind\",\"result\":\"$result\",$details"
	fi
	forget "$STATE/running"
	exec 9>&-
	return "$code"
}

serve() {
	SERVING=yes
	prepare
	as_postgres mkdir -p "$STATE/records"
	forget "$STATE/running"
	clear_scratch
	trap 'exit 0' TERM INT
	rounds=0
	while :; do
		if [ -e "$STATE/initialised" ]; then
			note_timeline || :
			if [ -e "$STATE/unshared" ]; then share_notes; fi
			rounds=$((rounds + 1))
			if [ "$((rounds % ROUNDS_PER_LOOK))" = 0 ]; then (look_for_damage "$(pgb info --output=json 2>/dev/null)") || :; fi
			for kind in full diff drill; do
				if due "$kind"; then (run "$kind") || :; fi &
				wait $! || :
			done
		fi
		sleep "$PACE" &
		wait $! || :
	done
}
