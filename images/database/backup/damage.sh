# shellcheck shell=dash
# Known damage in the data, with the time at which it was found. A finding of a backup or the server counts until a full backup, which
# reads every file, finds no damage. A finding of a drill counts until a drill finds no damage.

# damage_of_file AT LABEL FILE PAGES: prints a finding, with the names that a file of the data has in its database at present.
damage_of_file() {
	local number node folder tablespace database line
	number=${3##*/}
	node=${number%%[!0-9]*}
	folder=${3%/*}
	tablespace=0
	database=postgres
	case $3 in
	global/*) tablespace=1664 ;;
	pg_tblspc/*)
		tablespace=${3#pg_tblspc/}
		tablespace=${tablespace%%/*}
		;;
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

# Prints the known findings, a line of JSON each.
damage_known() { note_read "$DAMAGE" 2>/dev/null | grep . || :; }

# damage_is_known SOURCE: whether a backup, the server (checksums) or a drill has found something.
damage_is_known() { damage_known | grep -q "\"source\":\"$1\""; }

# damage_replace LINES: makes these the known findings.
damage_replace() {
	if [ "$1" = "$(damage_known)" ]; then return 0; fi
	if [ -n "$1" ]; then
		note_write "$DAMAGE" "$1"
	else
		note_remove "$DAMAGE"
	fi
}

# damage_add LINE
damage_add() { damage_replace "$(printf '%s\n%s\n' "$(damage_known)" "$1" | grep .)"; }

# damage_add_drill LABEL WORDS: records what a drill found. A second drill with the same result does not change the time of the finding.
damage_add_drill() {
	damage_is_known drill ||
		damage_add "{\"at\":$(now),\"source\":\"drill\",\"label\":$(json "$1"),\"words\":$(json_words "$2")}"
}

damage_forget_drill() { damage_replace "$(damage_known | grep -v '"source":"drill"' || :)"; }

# damage_add_unreadable LABEL OUTPUT: a page that the server refused to read while the record of a backup was made.
damage_add_unreadable() {
	local page block
	page=$(grep -ao 'invalid page in block [0-9]* of relation [a-zA-Z0-9_./]*' "$2" | head -n 1)
	[ -n "$page" ] || return 0
	block=${page#invalid page in block }
	damage_add "$(damage_of_file "$(now)" "$1" "${page##* }" "${block%% *}")"
}

# damage_look INFO: brings the known findings up to date, from pgBackRest's list of backups and the server's count of checksum failures.
damage_look() {
	local backups clean lines label at file pages line database tab newline
	tab=$(printf '\t')
	newline='
'
	case $1 in '['*) ;; *) return 0 ;; esac
	backups=$(printf '%s' "$1" | repository_parse)
	# When every file was last read and nothing was found.
	clean=$(printf '%s\n' "$backups" | awk '$2 == "sound" && $1 !~ /_/ { at = $3 } END { print at + 0 }')
	lines=$(damage_known | awk -v clean="$clean" '
		/"source":"drill"/ { print; next }
		{ at = $0; sub(/^[{]"at":/, "", at); if (at + 0 > clean + 0) print }')
	for label in $(printf '%s\n' "$backups" | awk -v clean="$clean" '$2 == "damaged" && $3 + 0 > clean + 0 { print $1 }'); do
		case $lines in *"\"label\":\"$label\""*) continue ;; esac
		at=$(printf '%s\n' "$backups" | awk -v label="$label" '$1 == label { print $3 }')
		repository_damaged_files "$label" | head -n "$NAMED_FILES" >/tmp/damaged-files
		while IFS="$tab" read -r file pages; do
			lines="$lines$newline$(damage_of_file "$at" "$label" "$file" "$pages")"
		done </tmp/damaged-files
	done
	# A crash resets the server's count, but not the recorded findings.
	sql -v clean="$clean" -f "$SHARE/checksum-failures.sql" </dev/null >/tmp/checksum-failures 2>/dev/null || : >/tmp/checksum-failures
	while IFS= read -r line; do
		database=${line#*\"database\":}
		case $lines in *"\"source\":\"checksums\",\"database\":${database%%,\"count\"*},"*) continue ;; esac
		lines="$lines$newline$line"
	done </tmp/checksum-failures
	damage_replace "$(printf '%s\n' "$lines" | grep . || :)"
}
