# Damage in the data: what is known of it, and since when.
# shellcheck shell=sh

# A line of JSON for each finding. What a backup or the server found in a file counts until a full backup, which reads every file,
# finds nothing; what a drill found counts until a drill finds nothing.
DAMAGE=$STATE/damage
# Files of one backup that are named, at most.
NAMED_FILES=50
NEWLINE='
'
TAB=$(printf '\t')

# A text as JSON, on one line, in whatever language.
json_words() { printf '"%s"' "$(printf '%s' "$1" | tr '\n\t\r' '   ' | tr -d '\000-\037\177' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# marked INFO: a line for each backup in pgBackRest's list, oldest first: damaged or sound, when it began, its label.
marked() {
	printf '%s' "$1" | grep -oE '"error":(true|false|null)|"label":"[^"]*"|"timestamp":\{"start":[0-9]*' | tr -d '{"' | awk -F : '
		$1 == "error" { state = $2 == "true" ? "damaged" : "sound" }
		$1 == "label" { label = $2 }
		$1 == "timestamp" { print state, $3, label }'
}

# The newest backup in which pgBackRest found no damaged page; the newest of all where every one has some.
newest_sound_label() {
	marked "$(pgb info --output=json)" | awk '{ last = $3 } $1 == "sound" { sound = $3 } END { print sound ? sound : last }'
}

# damaged_files LABEL: a line for each file of a backup with damaged pages: the file, a tab, and the pages where they are known.
damaged_files() {
	found=$(pgb repo-get "backup/main/$1/backup.manifest" 2>/dev/null | awk -f "$SHARE/pages.awk") || found=
	if [ -n "$found" ]; then printf '%s\n' "$found"
	else pgb info --set="$1" --output=json | grep -o '"error-list":\[[^]]*\]' | cut -d '[' -f 2 | tr -d '"]' | tr ',' '\n'; fi
}

# named_file AT LABEL FILE PAGES: a finding, with the names that a file of the data has in its database at present.
named_file() {
	number=${3##*/}
	node=${number%%[!0-9]*}
	folder=${3%/*}
	tablespace=0
	database=postgres
	case $3 in
	global/*) tablespace=1664 ;;
	pg_tblspc/*) tablespace=${3#pg_tblspc/} tablespace=${tablespace%%/*} ;;
	esac
	case ${folder##*/} in
	global) ;;
	*[!0-9]*) node= ;;
	*) database=$(sql -c "SELECT datname FROM pg_database WHERE oid = ${folder##*/}" 2>/dev/null) || database= ;;
	esac
	line=
	if [ -n "$node" ] && [ -n "$database" ]; then
		line=$(sql -d "$(named "$database")" -v at="$1" -v label="$2" -v file="$3" -v blocks="$4" -v tablespace="$tablespace" \
			-v node="$node" -f "$SHARE/named-file.sql" </dev/null 2>/dev/null) || line=
	fi
	[ -n "$line" ] ||
		line="{\"at\":$1,\"source\":\"backup\",\"label\":$(json "$2"),\"database\":null,\"relation\":null,\"file\":$(json "$3"),\"blocks\":$(json "$4")}"
	printf '%s\n' "$line"
}

known_damage() { noted "$DAMAGE" 2>/dev/null | grep . || :; }

# keep_damage LINES: from now on this is what is known.
keep_damage() {
	if [ "$1" = "$(known_damage)" ]; then return 0; fi
	if [ -n "$1" ]; then put "$DAMAGE" "$1"; else forget "$DAMAGE"; fi
}

# note_damage LINE
note_damage() { keep_damage "$(printf '%s\n%s\n' "$(known_damage)" "$1" | grep .)"; }

# Damage that a drill found is noted once: since when it is there counts.
note_damage_in_drill() {
	known_damage | grep -q '"source":"drill"' ||
		note_damage "{\"at\":$(now),\"source\":\"drill\",\"label\":$(json "$1"),\"words\":$(json_words "$2")}"
}

forget_damage_in_drill() { keep_damage "$(known_damage | grep -v '"source":"drill"' || :)"; }

# note_unreadable LABEL OUTPUT: a page that the server refused to read while a record was made behind a backup.
note_unreadable() {
	page=$(grep -ao 'invalid page in block [0-9]* of relation [a-zA-Z0-9_./]*' "$2" | head -n 1)
	[ -n "$page" ] || return 0
	block=${page#invalid page in block }
	note_damage "$(named_file "$(now)" "$1" "${page##* }" "${block%% *}")"
}

# look_for_damage INFO: brings what is known up to date, by pgBackRest's list of backups and by the server's own count of failures.
look_for_damage() {
	case $1 in '['*) ;; *) return 0 ;; esac
	marks=$(marked "$1")
	# When every file was last read and nothing was found.
	clean=$(printf '%s\n' "$marks" | awk '$1 == "sound" && $3 !~ /_/ { at = $2 } END { print at + 0 }')
	lines=$(known_damage | awk -v clean="$clean" '
		/"source":"drill"/ { print; next }
		{ at = $0; sub(/^[{]"at":/, "", at); if (at + 0 > clean + 0) print }')
	for label in $(printf '%s\n' "$marks" | awk -v clean="$clean" '$1 == "damaged" && $2 + 0 > clean + 0 { print $3 }'); do
		case $lines in *"\"label\":\"$label\""*) continue ;; esac
		at=$(printf '%s\n' "$marks" | awk -v label="$label" '$3 == label { print $2 }')
		damaged_files "$label" | head -n "$NAMED_FILES" >/tmp/damaged-files
		while IFS="$TAB" read -r file pages; do
			lines="$lines$NEWLINE$(named_file "$at" "$label" "$file" "$pages")"
		done </tmp/damaged-files
	done
	# A crash of the server resets its count, but not what was noted of it.
	sql -v clean="$clean" -f "$SHARE/checksum-failures.sql" </dev/null >/tmp/checksum-failures 2>/dev/null || : >/tmp/checksum-failures
	while IFS= read -r line; do
		database=${line#*\"database\":}
		case $lines in *"\"source\":\"checksums\",\"database\":${database%%,\"count\"*},"*) continue ;; esac
		lines="$lines$NEWLINE$line"
	done </tmp/checksum-failures
	keep_damage "$(printf '%s\n' "$lines" | grep . || :)"
}
