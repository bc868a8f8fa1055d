# shellcheck shell=dash
# A drill: restores the newest backup, checks it and compares it with its record.

# Runs the drill. Leaves the details of the run in RUN_DETAILS, and an error in $OUTPUT.
drill_run() {
	local label record compared damage
	scratch_clear
	DRILL_DAMAGE=
	label=$(repository_newest_sound)
	if [ -z "$label" ]; then
		pgb info >"$OUTPUT" 2>&1 || :
		echo "error: no sound backup can be read: $(tail -n 3 "$OUTPUT")" >"$OUTPUT"
		return 1
	fi
	if repository_is_foreign "$(repository_info)" "$(server_control_data "system identifier")"; then
		echo "error: the repository belongs to another database" >"$OUTPUT"
		return 1
	fi
	RUN_DETAILS="\"label\":$(json "$label")"
	record=$label
	compared=recorded
	if ! record_fetch "$label"; then
		# The backup was made without a record, or its record was lost. The present content of the tables serves as well.
		record=now
		compared=present
		if ! record_make "$record" "$label"; then
			echo "error: $(error_in "$OUTPUT.record")" >"$OUTPUT"
			return 1
		fi
	fi
	progress "verifying every file of the repository"
	damage=
	drill_verify || damage="pgBackRest's verify finds damage: $(drill_verify_errors)"
	# A damaged file may belong to another backup, so the drill tries to restore this one in any case.
	if [ -z "$damage" ] && ! drill_archive_is_complete; then damage=$(cat "$OUTPUT"); fi
	if drill_restore "$label" "$STATE/records/$record" "$compared"; then
		damage_forget_drill
		[ -n "$damage" ] || return 0
		echo "error: $damage. The newest backup could be restored nevertheless, with every table as it was" >"$OUTPUT"
	elif [ -n "$damage" ]; then
		echo "error: $damage. The newest backup could not be restored: $(error_in "$OUTPUT")" >"$OUTPUT.both"
		mv "$OUTPUT.both" "$OUTPUT"
	fi
	if [ -n "$DRILL_DAMAGE" ]; then
		damage_add_drill "$label" "$DRILL_DAMAGE"
		RUN_DETAILS="$RUN_DETAILS,\"damaged\":true"
	fi
	return 1
}

# pgBackRest's verify exits with 0 and prints "completed" whatever it finds. Only the word after "status" counts.
drill_verify() {
	pgb verify --output=text --verbose >"$OUTPUT.verify" 2>&1 || return 1
	grep -q 'status: ok' "$OUTPUT.verify" && ! grep -qE 'status: error|ERROR' "$OUTPUT.verify"
}

drill_verify_errors() {
	local errors
	errors=$(grep -aE 'ERROR|status: invalid|missing: [1-9]|(invalid|other): [1-9]' "$OUTPUT.verify" | head -n 3 | tr -s ' \n' ' ')
	printf '%s' "${errors:-$(error_in "$OUTPUT.verify")}"
}

# Whether the archive has every WAL file since the oldest full backup, or since the one that closed the last gap. pgBackRest's verify takes
# a hole for the end of one range and the beginning of another. Leaves the hole in $OUTPUT.
drill_archive_is_complete() {
	local first
	first=$(repository_first_wal "$(tail -n 1 "$STATE/gaps" 2>/dev/null | cut -d ' ' -f 5)")
	[ -n "$first" ] || return 0
	repository_wal "" >"$OUTPUT.files" || {
		echo "the archive cannot be listed" >"$OUTPUT"
		return 1
	}
	grep -oE '^[0-9A-F]{24}-' "$OUTPUT.files" | sort -u | awk -v first="$first" -f "$SHARE/hex.awk" -f "$SHARE/holes.awk" >"$OUTPUT"
	[ ! -s "$OUTPUT" ]
}

# Whether the disk has room for a drill. One that fills the disk would stop the server and the backups.
drill_has_room() {
	local need
	need=$(($(du -sk "$VOLUME/pgdata" | cut -f 1) - $(du -sk "$VOLUME/pgdata/pg_wal" | cut -f 1)))
	df -Pk "$STORE" | awk -v need="$need" -v left="$ROOM_LEFT_KB" 'NR == 2 {
		if (left > $2 / 10) left = $2 / 10
		if ($4 >= need + left) exit
		printf "error: there is no room for a drill: it takes %d MB beside the backups, and of the %d MB that are free there %d stay " \
			"for the server. Make room\n", need / 1024, $4 / 1024, left / 1024
	}' >"$OUTPUT"
	[ ! -s "$OUTPUT" ]
}

# drill_restore LABEL RECORD recorded|present: restores a backup to the restore point of a record, and compares. Leaves damage that it
# finds in DRILL_DAMAGE, and the number of tables and rows in RUN_DETAILS.
drill_restore() {
	local point timeline differing
	{
		read -r point
		read -r timeline
	} <"$2"
	tail -n +3 "$2" >/tmp/expected
	progress "restoring $1"
	drill_has_room || return 1
	as_postgres mkdir -p -m 0700 "$SCRATCH"
	pgb restore --set="$1" --pg1-path="$SCRATCH" --type=name --target="$point" --target-timeline="$timeline" \
		--target-action=promote --archive-mode=off --recovery-option="restore_command=$RESTORE_COMMAND" >"$OUTPUT" 2>&1 || return 1
	progress "recovering"
	if ! scratch_start "$SCRATCH" off; then
		cat "$SCRATCH_RUN/start" "$SCRATCH_RUN/log" >"$OUTPUT" 2>/dev/null
		return 1
	fi
	progress "checking every table and index"
	scratch_check >"$OUTPUT" 2>&1 || {
		DRILL_DAMAGE="pg_amcheck: $(head -n 3 "$OUTPUT" | tr '\n' ' ')"
		echo "error: $DRILL_DAMAGE" >"$OUTPUT"
		return 1
	}
	progress "comparing every table"
	record_fingerprints -h "$SCRATCH_RUN" >/tmp/found 2>"$OUTPUT" || {
		if grep -q 'invalid page in block' "$OUTPUT"; then DRILL_DAMAGE=$(error_in "$OUTPUT"); fi
		return 1
	}
	# The record of an older image does not have the owners of large objects.
	if ! grep -q ' pg_largeobject_metadata	' /tmp/expected; then
		sed -i '/^[^	]* pg_largeobject_metadata	/d' /tmp/found
	fi
	if ! cmp -s /tmp/expected /tmp/found; then
		differing=$(awk -F '\t' 'NR == FNR { want[$1] = $0; next } want[$1] != $0 { print $1 } { delete want[$1] } END { for (t in want) print t }' \
			/tmp/expected /tmp/found | head -n 5 | tr '\n' ' ')
		DRILL_DAMAGE="tables differ from what the database held when the backup was made: $differing"
		echo "error: $DRILL_DAMAGE" >"$OUTPUT"
		return 1
	fi
	RUN_DETAILS="$RUN_DETAILS,\"compared\":\"$3\",$(record_count_tables /tmp/found |
		awk '{ printf "%s\"%s\":%s", between, $1, $2; between = "," }')"
}
