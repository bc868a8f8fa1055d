# A drill: the newest backup is restored, checked and compared.
# shellcheck shell=sh

# pgBackRest's verify exits with 0 and says "completed" whatever it finds; what counts is the word behind "status".
verify_words() {
	pgb verify --output=text --verbose >"$OUTPUT.verify" 2>&1 || return 1
	grep -q 'status: ok' "$OUTPUT.verify" && ! grep -qE 'status: error|ERROR' "$OUTPUT.verify"
}

drill() {
	clear_scratch
	damaged=
	label=$(newest_sound_label)
	if [ -z "$label" ]; then
		pgb info >"$OUTPUT" 2>&1 || :
		echo "error: there is no backup to be read: $(tail -n 3 "$OUTPUT")" >"$OUTPUT"
		return 1
	fi
	known=$(pgb info --output=json | grep -o '"system-id":[0-9]*' | tail -n 1)
	if [ "${known#*:}" != "$(control "system identifier")" ]; then
		echo "error: the repository belongs to another database" >"$OUTPUT"
		return 1
	fi
	details="\"label\":$(json "$label")"
	name=$label
	compared=recorded
	if ! fetch_record "$label"; then
		# Taken without a record, or the record was lost: what the tables hold now is as good.
		name=now
		compared=present
		if ! record "$name" "$label"; then
			echo "error: $(cause "$OUTPUT.record")" >"$OUTPUT"
			return 1
		fi
	fi
	tell "verifying every file of the repository"
	damage=
	verify_words || damage="pgBackRest's verify finds damage: $(damage_found)"
	# A damaged file may be another backup's: whether this one can be restored is found out in any case.
	if [ -z "$damage" ] && ! no_holes; then damage=$(cat "$OUTPUT"); fi
	if prove "$label" "$STATE/records/$name"; then
		forget_damage_in_drill
		[ -n "$damage" ] || return 0
		echo "error: $damage. The newest backup could be restored all the same, every table as it was" >"$OUTPUT"
	elif [ -n "$damage" ]; then
		echo "error: $damage. The newest backup could not be restored: $(cause "$OUTPUT")" >"$OUTPUT.both"
		mv "$OUTPUT.both" "$OUTPUT"
	fi
	if [ -n "$damaged" ]; then
		note_damage_in_drill "$label" "$damaged"
		details="$details,\"damaged\":true"
	fi
	return 1
}

# Whether the archive has every WAL file since the oldest full backup, or the one behind the last gap: verify takes a hole for the
# end of one range and the beginning of another.
no_holes() {
	since=$(tail -n 1 "$STATE/gaps" 2>/dev/null | cut -d ' ' -f 5)
	first=$(pgb info --output=json | grep -oE '"archive":\{"start":"[0-9A-F]*"|"label":"[^"]*"' | tr -d '{"' |
		awk -F : -v since="$since" '$1 == "archive" { start = $3 } $1 == "label" && $2 !~ /_/ && $2 >= since { print start; exit }')
	[ -n "$first" ] || return 0
	in_archive "" >"$OUTPUT.files" || {
		echo "the archive cannot be listed" >"$OUTPUT"
		return 1
	}
	grep -oE '^[0-9A-F]{24}-' "$OUTPUT.files" | sort -u | awk -v first="$first" -f "$SHARE/hex.awk" -f "$SHARE/holes.awk" >"$OUTPUT"
	[ ! -s "$OUTPUT" ]
}

damage_found() {
	found=$(grep -aE 'ERROR|status: invalid|missing: [1-9]|(invalid|other): [1-9]' "$OUTPUT.verify" | head -n 3 | tr -s ' \n' ' ')
	printf '%s' "${found:-$(cause "$OUTPUT.verify")}"
}

# A drill that fills the disk would stop the server, and the backups too.
room_for_drill() {
	need=$(($(du -sk "$VOLUME/pgdata" | cut -f 1) - $(du -sk "$VOLUME/pgdata/pg_wal" | cut -f 1)))
	df -Pk "$STORE" | awk -v need="$need" -v left="$ROOM_LEFT_KB" 'NR == 2 {
		if (left > $2 / 10) left = $2 / 10
		if ($4 >= need + left) exit
		printf "error: there is no room for a drill: it takes %d MB beside the backups, and of the %d MB that are free there %d stay " \
			"for the server. Make room\n", need / 1024, $4 / 1024, left / 1024
	}' >"$OUTPUT"
	[ ! -s "$OUTPUT" ]
}

# prove LABEL RECORD: restores a backup to the point of its record, and compares.
prove() {
	{ read -r point; read -r timeline; } <"$2"
	tail -n +3 "$2" >/tmp/expected
	tell "restoring $1"
	room_for_drill || return 1
	as_postgres mkdir -p -m 0700 "$SCRATCH"
	pgb restore --set="$1" --pg1-path="$SCRATCH" --type=name --target="$point" --target-timeline="$timeline" \
		--target-action=promote --archive-mode=off --recovery-option="restore_command=$RESTORE_COMMAND" >"$OUTPUT" 2>&1 || return 1
	tell "recovering"
	if ! start_aside "$SCRATCH" off; then
		cat "$ASIDE/start" "$ASIDE/log" >"$OUTPUT" 2>/dev/null
		return 1
	fi
	tell "checking every table and index"
	amcheck >"$OUTPUT" 2>&1 || {
		damaged="pg_amcheck: $(head -n 3 "$OUTPUT" | tr '\n' ' ')"
		echo "error: $damaged" >"$OUTPUT"
		return 1
	}
	tell "comparing every table"
	fingerprints -h "$ASIDE" >/tmp/found 2>"$OUTPUT" || {
		if grep -q 'invalid page in block' "$OUTPUT"; then damaged=$(cause "$OUTPUT"); fi
		return 1
	}
	# A record of an older image says nothing of large objects' owners.
	if ! grep -q ' pg_largeobject_metadata	' /tmp/expected; then
		sed -i '/^[^	]* pg_largeobject_metadata	/d' /tmp/found
	fi
	if ! cmp -s /tmp/expected /tmp/found; then
		differing=$(awk -F '\t' 'NR == FNR { want[$1] = $0; next } want[$1] != $0 { print $1 } { delete want[$1] } END { for (t in want) print t }' \
			/tmp/expected /tmp/found | head -n 5 | tr '\n' ' ')
		damaged="tables differ from what the database held when the backup was made: $differing"
		echo "error: $damaged" >"$OUTPUT"
		return 1
	fi
	details="$details,\"compared\":\"$compared\",$(count_tables /tmp/found | awk '{ printf "%s\"%s\":%s", between, $1, $2; between = "," }')"
}
