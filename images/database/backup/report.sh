# shellcheck shell=dash
# The report: everything that is known about the backups, as JSON (components/backups/report.ts reads it).

# report_disk NAME FOLDER: the size of a folder's disk and the room left on it.
report_disk() {
	df -Pk "$2" 2>/dev/null | awk -v name="$1" 'NR == 2 { size = $2; free = $4 }
		END { printf "\"%sSize\":%.0f,\"%sFree\":%.0f,\n", name, size * 1024, name, free * 1024 }'
}

# When the first WAL file that waits was ready to be archived; 0 if none waits.
report_waiting_since() {
	find "$VOLUME/pgdata/pg_wal/archive_status" -name '*.ready' -exec stat -c %Y {} + 2>/dev/null | sort -n | head -n 1 | grep . || echo 0
}

# report_array LINES: lines of JSON as an array.
report_array() { printf '[%s]' "$(printf '%s' "$1" | tr '\n' ',')"; }

# report_strings FILE: the lines of a file as an array of strings; empty if there is none.
report_strings() {
	local line strings
	strings=
	if [ -e "$1" ]; then
		while IFS= read -r line; do strings="$strings${strings:+,}$(json "$line")"; done <"$1"
	fi
	printf '[%s]' "$strings"
}

# report_note FILE: a note that is JSON, or null.
report_note() { note_read "$1" | grep . || echo null; }

# report_boolean COMMAND...: true if the command succeeds, else false.
report_boolean() { if "$@"; then echo true; else echo false; fi; }

# report_repository_is_there INFO: whether the repository holds an archive.
report_repository_is_there() {
	case $1 in *ConnectError*) return 1 ;; esac
	repository_has_archive --io-timeout=3
}

report_archiver() {
	sql -c "
		SELECT json_build_object('archived', archived_count, 'failed', failed_count, 'lastArchived', last_archived_wal,
			'lastArchivedAt', extract(epoch FROM last_archived_time)::float8, 'lastFailed', last_failed_wal,
			'lastFailedAt', extract(epoch FROM last_failed_time)::float8, 'timeline', CASE WHEN pg_is_in_recovery() THEN c.timeline_id
				ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
			'databaseBytes', (SELECT sum(pg_database_size(oid)) FROM pg_database))
		FROM pg_stat_archiver, pg_control_checkpoint() c" 2>/dev/null
}

# report_number NUMBER: the number, or null.
report_number() { printf '%s' "${1:-null}"; }

# Prints the report. It holds pgBackRest's words, because pgBackRest exits with 0 even if the key is wrong.
report_write() {
	local code info words archiver room kind folder kept
	code=0
	info=$(repository_info_soon 2>/dev/null | tr -cd '\040-\176') || code=$?
	case $info in '['*) ;; *) info=null ;; esac
	if [ "$info" = null ] || [ "$code" != 0 ]; then
		words=$(pgb --io-timeout=3 info 2>&1 | head -n 3)
	else
		words=$(repository_connect_error "$info")
	fi
	damage_look "$info" || :
	archiver=$(report_archiver) || archiver=null
	room=$(archive_room 2>/dev/null) || room=
	echo '{'
	printf '"now":%s,"database":%s,\n' "$(now)" "$(json "${BACKUP_DATABASE:-}")"
	printf '"info":%s,"infoSaid":%s,\n' "$info" "$(json "$words")"
	for kind in full diff drill; do
		printf '"%s":{"ok":%s,"failed":%s,"late":%s},\n' "$kind" "$(report_note "$STATE/$kind.ok")" \
			"$(report_note "$STATE/$kind.failed")" "$(schedule_late "$kind")"
	done
	printf '"running":%s,\n' "$(json "$(schedule_running)")"
	printf '"damage":%s,\n' "$(report_array "$(damage_known)")"
	printf '"archiver":%s,\n' "${archiver:-null}"
	# From the data, so also while the server is down.
	printf '"systemIdentifier":%s,\n' "$(json "$(server_control_data "system identifier")")"
	printf '"archivedUntil":%s,\n' "$(stat -c %Y "$ARCHIVED_UNTIL" 2>/dev/null || echo 0)"
	printf '"archivingSaid":%s,\n' "$(json "$(cat "$ARCHIVING_ERROR" 2>/dev/null)")"
	printf '"walDropThresholdPercent":%s,\n' "${BACKUP_WAL_DROP_PERCENT:?}"
	printf '"walRoom":%s,\n' "$(report_number "${room:+$((room * 1024))}")"
	printf '"waiting":%s,\n' "$(find "$VOLUME/pgdata/pg_wal/archive_status" -name '*.ready' 2>/dev/null | wc -l)"
	printf '"waitingSince":%s,\n' "$(report_waiting_since)"
	printf '"walBytes":%s,\n' "$(folder_bytes "$VOLUME/pgdata/pg_wal")"
	report_disk data "$VOLUME"
	if repository_in_store; then
		printf '"repositorySize":null,"repositoryFree":null,"repositoryBytes":null,\n'
	else
		report_disk repository "$STORE/repository"
		printf '"repositoryBytes":%s,\n' "$(folder_bytes "$STORE/repository")"
	fi
	printf '"repositoryThere":%s,\n' "$(report_boolean report_repository_is_there "$info")"
	printf '"begun":%s,\n' "$(report_boolean [ -e "$ARCHIVING_BEGAN" ])"
	printf '"gaps":%s,\n' "$(report_strings "$STATE/gaps")"
	printf '"openGap":%s,\n' "$(json "$(note_open_gaps | head -n 1)")"
	printf '"timelines":%s,\n' "$(report_strings "$STATE/timelines")"
	kept=
	for folder in "$VOLUME"/pgdata.*; do
		[ ! -d "$folder" ] || kept="$kept${kept:+,}$(json "${folder##*/}")"
	done
	printf '"kept":[%s]\n}\n' "$kept"
}
