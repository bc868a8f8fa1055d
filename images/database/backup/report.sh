# Everything that is known, for the commands and for monitoring.
# shellcheck shell=sh

bytes_of() { echo "$(($(du -sk "$1" 2>/dev/null | cut -f 1 | grep . || echo 0) * 1024))"; }

# room NAME FOLDER: size of its disk, and what is free there.
room() {
	df -Pk "$2" 2>/dev/null | awk -v name="$1" 'NR == 2 { size = $2; free = $4 }
		END { printf "\"%sSize\":%.0f,\"%sFree\":%.0f,\n", name, size * 1024, name, free * 1024 }'
}

# When the WAL file that waits for longest was ready to be archived; 0 where none waits.
waiting_since() {
	first=$(ls -tr "$VOLUME/pgdata/pg_wal/archive_status" 2>/dev/null | grep '\.ready$' | head -n 1)
	if [ -z "$first" ]; then echo 0
	else stat -c %Y "$VOLUME/pgdata/pg_wal/archive_status/$first" 2>/dev/null || echo 0; fi
}

# Lines that are JSON, as an array.
array_of() { printf '[%s]' "$(printf '%s' "$1" | tr '\n' ',')"; }

noted_or_null() { noted "$1" | grep . || echo null; }

lines_as_json() {
	first=yes
	printf '['
	if [ -e "$1" ]; then
		while IFS= read -r line; do
			[ "$first" = yes ] || printf ','
			first=no
			json "$line"
		done <"$1"
	fi
	printf ']'
}

# Everything that is known, as JSON, for the commands and for monitoring. Words, not exit codes: `info` succeeds with a wrong key.
report() {
	code=0
	# Whoever asks waits for it: a store that is away is not waited for as long as a backup would.
	info=$(pgb --io-timeout=3 info --output=json 2>/dev/null | tr -cd '\040-\176') || code=$?
	case $info in '['*) ;; *) info=null ;; esac
	said=
	if [ "$info" = null ] || [ "$code" != 0 ]; then said=$(pgb --io-timeout=3 info 2>&1 | head -n 3)
	else said=$(printf '%s' "$info" | grep -o '\[[A-Za-z]*ConnectError\][^"]*' | head -n 1); fi
	look_for_damage "$info" || :
	archiver=$(sql -c "
		SELECT json_build_object('archived', archived_count, 'failed', failed_count, 'lastArchived', last_archived_wal,
			'lastArchivedAt', extract(epoch FROM last_archived_time)::float8, 'lastFailed', last_failed_wal,
			'lastFailedAt', extract(epoch FROM last_failed_time)::float8, 'timeline', CASE WHEN pg_is_in_recovery() THEN c.timeline_id
				ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
			'databaseBytes', (SELECT sum(pg_database_size(oid)) FROM pg_database))
		FROM pg_stat_archiver, pg_control_checkpoint() c" 2>/dev/null) || archiver=null
	echo '{'
	printf '"now":%s,"database":%s,\n' "$(now)" "$(json "${BACKUP_DATABASE:-}")"
	printf '"info":%s,"infoSaid":%s,\n' "$info" "$(json "$said")"
	for kind in full diff drill; do
		printf '"%s":{"ok":%s,"failed":%s,"late":%s},\n' "$kind" "$(noted_or_null "$STATE/$kind.ok")" \
			"$(noted_or_null "$STATE/$kind.failed")" "$(late "$kind")"
	done
	printf '"running":%s,\n' "$(json "$(running)")"
	printf '"damage":%s,\n' "$(array_of "$(known_damage)")"
	printf '"archiver":%s,\n' "${archiver:-null}"
	# Also of a server that is down.
	printf '"systemIdentifier":%s,\n' "$(json "$(control "system identifier")")"
	printf '"archivedUntil":%s,\n' "$(stat -c %Y "$ARCHIVED" 2>/dev/null || echo 0)"
	printf '"archivingSaid":%s,\n' "$(json "$(cat "$SAID" 2>/dev/null)")"
	printf '"giveUpAt":%s,\n' "${BACKUP_GIVE_UP_AT:?}"
	printf '"waiting":%s,\n' "$(find "$VOLUME/pgdata/pg_wal/archive_status" -name '*.ready' 2>/dev/null | wc -l)"
	printf '"waitingSince":%s,\n' "$(waiting_since)"
	printf '"walBytes":%s,\n' "$(bytes_of "$VOLUME/pgdata/pg_wal")"
	room data "$VOLUME"
	if in_store; then printf '"repositorySize":null,"repositoryFree":null,"repositoryBytes":null,\n'
	else
		room repository "$STORE/repository"
		printf '"repositoryBytes":%s,\n' "$(bytes_of "$STORE/repository")"
	fi
	printf '"repositoryThere":%s,\n' "$(case $info in *ConnectError*) echo false ;; *) if has_archive_info --io-timeout=3; then echo true; else echo false; fi ;; esac)"
	printf '"begun":%s,\n' "$(if [ -e "$BEGAN" ]; then echo true; else echo false; fi)"
	printf '"gaps":%s,\n' "$(lines_as_json "$STATE/gaps")"
	printf '"openGap":%s,\n' "$(json "$(open_gaps | head -n 1)")"
	printf '"timelines":%s,\n' "$(lines_as_json "$STATE/timelines")"
	printf '"kept":['
	first=yes
	for folder in "$VOLUME"/pgdata.*; do
		[ -d "$folder" ] || continue
		[ "$first" = yes ] || printf ','
		first=no
		json "${folder##*/}"
	done
	printf ']\n}\n'
}
