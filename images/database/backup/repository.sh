# shellcheck shell=dash
# The repository and its backups. This is the only file that reads pgBackRest's JSON.

# Prints pgBackRest's list of backups, as JSON.
repository_info() { pgb info --output=json; }

# The same with a shorter timeout for a store that does not answer, because a user is waiting.
repository_info_soon() { pgb --io-timeout=3 info --output=json; }

# repository_parse: prints a line for each backup in pgBackRest's list on standard input; backups.awk describes the line.
repository_parse() {
	grep -oE '"archive":\{"start":[^,]*,"stop":[^,}]*|"error":(true|false|null)|"repository":\{"delta":[0-9]*|"label":"[^"]*"|"lsn":\{"start":[^,]*,"stop":[^,}]*|"timestamp":\{"start":[0-9]*,"stop":[0-9]*' |
		tr -d '{"' | awk -f "$SHARE/backups.awk"
}

repository_backups() { repository_info | repository_parse; }
repository_labels() { repository_backups | cut -d ' ' -f 1; }

# Prints the label of the newest backup in which pgBackRest found no damaged page; if every backup has one, the label of the newest.
repository_newest_sound() {
	repository_backups | awk '{ last = $1 } $2 == "sound" { sound = $1 } END { print sound == "" ? last : sound }'
}

# repository_timeline LABEL: prints the timeline on which a backup ended, as WAL file names begin.
repository_timeline() { repository_backups | awk -v label="$1" '$1 == label { print substr($6, 1, 8) }'; }

# repository_first_wal LABEL: prints the first WAL file of the oldest full backup, or of the oldest one that is no older than LABEL.
repository_first_wal() { repository_backups | awk -v since="$1" '$1 !~ /_/ && $1 "" >= since "" { print $5; exit }'; }

# repository_bytes LABEL: prints how many bytes a backup takes, or "null".
repository_bytes() {
	local bytes
	if repository_in_store; then
		bytes=$(repository_backups | awk -v label="$1" '$1 == label && $8 != "-" { print $8 }')
	else
		bytes=$(folder_bytes "$STORE/repository/backup/main/$1")
	fi
	echo "${bytes:-null}"
}

# repository_leading_backup TIMELINE TIME NOTES: prints the newest sound backup from which a time on a timeline can be reached. pgBackRest
# would take the newest of all, which may be on a timeline that the server has left. NOTES is the file with the timelines' notes.
repository_leading_backup() {
	repository_backups | awk -v wanted="$1" -v moment="$2" -v notes="$3" -v after="$REACHABLE_AFTER_SECONDS" \
		-f "$SHARE/hex.awk" -f "$SHARE/leading.awk"
}

# repository_is_foreign INFO SYSTEM-IDENTIFIER: whether the repository belongs to another database than the data. Unknown counts as no.
repository_is_foreign() {
	local known
	known=$(printf '%s' "$1" | grep -o '"system-id":[0-9]*' | tail -n 1)
	[ -n "$known" ] && [ -n "$2" ] && [ "${known#*:}" != "$2" ]
}

# repository_connect_error INFO: prints why a store does not answer; nothing if it does.
repository_connect_error() { printf '%s' "$1" | grep -o '\[[A-Za-z]*ConnectError\][^"]*' | head -n 1; }

# repository_damaged_files LABEL: prints a line for each file of a backup with damaged pages: the file, a tab, and the pages if known.
repository_damaged_files() {
	local found
	found=$(pgb repo-get "backup/main/$1/backup.manifest" 2>/dev/null | awk -f "$SHARE/pages.awk") || found=
	if [ -n "$found" ]; then
		printf '%s\n' "$found"
	else
		pgb info --set="$1" --output=json | grep -o '"error-list":\[[^]]*\]' | cut -d '[' -f 2 | tr -d '"]' | tr ',' '\n'
	fi
}

# Whether the repository is in a store, and not in a folder.
repository_in_store() { grep -q '^repo1-type=' /etc/pgbackrest/pgbackrest.conf; }

# repository_names FOLDER: prints the names in a folder of the repository. Fails if the folder cannot be read, unlike an empty one. A
# local folder is read directly, because a call of pgBackRest takes longer.
repository_names() {
	if repository_in_store; then
		pgb repo-ls "$1"
	else
		ls "$STORE/repository/$1"
	fi
}

# repository_has_archive OPTIONS FOR PGBACKREST...: whether the archive is there.
repository_has_archive() { pgb "$@" repo-ls archive/main 2>/dev/null | grep -qx archive.info; }

# repository_wal BEGINNING: prints the files in the archive's folders whose names begin with BEGINNING.
repository_wal() {
	local versions version folders folder
	versions=$(repository_names archive/main) || return 1
	for version in $(printf '%s\n' "$versions" | grep -E '^[0-9.]+-[0-9]+$'); do
		folders=$(repository_names "archive/main/$version") || return 1
		for folder in $(printf '%s\n' "$folders" | grep "^$1"); do
			repository_names "archive/main/$version/$folder" || return 1
		done
	done
}

# repository_note NAME: prints one of this project's notes in the repository; nothing if there is none. Fails if that cannot be determined.
repository_note() {
	local code
	code=0
	pgb --raw repo-get "$1" 2>/tmp/repository-note || code=$?
	# 55: there is no such file.
	case $code in 0 | 55) return 0 ;; esac
	cat /tmp/repository-note >&2
	return 1
}
