# shellcheck shell=dash
# Functions that every part uses.

now() { date +%s; }

as_postgres() {
	if [ "$(id -u)" != 0 ]; then
		"$@"
	elif command -v gosu >/dev/null; then
		gosu postgres "$@"
	else
		su-exec postgres "$@"
	fi
}

# named DATABASE: a connection string for psql, whatever characters the name has.
named() { printf "dbname='%s'" "$(printf '%s' "$1" | sed "s/[\\\\']/\\\\&/g")"; }

# json TEXT: the text as a JSON string on one line, ASCII only: what is decrypted with a wrong key may be any bytes.
json() { printf '"%s"' "$(printf '%s' "$1" | tr '\n\t\r' '   ' | tr -cd '\040-\176' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# json_words TEXT: the text as a JSON string on one line, in any language.
json_words() { printf '"%s"' "$(printf '%s' "$1" | tr '\n\t\r' '   ' | tr -d '\000-\037\177' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# log MEMBERS: writes a line of JSON to the container's log, also when `docker exec` started this script.
log() {
	local line
	line="{\"time\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\",$1}"
	printf '%s\n' "$line"
	if [ "$SERVING" != yes ] && [ -w /proc/1/fd/1 ]; then printf '%s\n' "$line" >/proc/1/fd/1; fi
}

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# fatal WORDS: ends the start of a server, in the words of PostgreSQL's log.
fatal() {
	printf 'FATAL: %s\n' "$*" >&2
	exit 1
}

# progress WORDS: tells the person who started a run what it is doing. A scheduled run has no such person.
progress() { [ "$SERVING" = yes ] || echo "$*" >&2; }

# error_in FILE: the errors of pgBackRest or PostgreSQL in an output, or its last line.
error_in() {
	local words
	words=$(tr -cd '\011\012\040-\176' <"$1" | grep -E 'ERROR|FATAL|PANIC|error:' |
		grep -vE 'not accepting connections|starting up' | tail -n 3 | cut -c1-600)
	[ -n "$words" ] || words=$(tail -n 1 "$1" | cut -c1-600)
	printf '%s' "${words#error: }"
}

# folder_bytes FOLDER: the bytes that a folder takes; 0 if there is none.
folder_bytes() { echo "$(($(du -sk "$1" 2>/dev/null | cut -f 1 | grep . || echo 0) * 1024))"; }

# timeline_in FOLDER: prints the timeline that data is on. A server that changes its timeline writes the new one to the control file
# before it accepts sessions.
timeline_in() {
	LC_ALL=C pg_controldata -D "$1" | awk -F : '
		/TimeLineID:/ && /^Latest/ || /^Min recovery ending loc/ && /timeline/ { if ($2 + 0 > timeline) timeline = $2 + 0 }
		END { print timeline + 0 }'
}
