# shellcheck shell=sh
# Functions for the scripts in this folder, which source this file. POSIX sh.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
LOCAL="$ROOT/.local"
# shellcheck disable=SC2034  # the scripts that source this file use it
TOOLS="$LOCAL/toolchain"
. "$ROOT/script/portable.sh"

# say WORDS...: prints a line to standard error. Standard output is for results.
say() { printf '%s\n' "$*" >&2; }

# fail WORDS...: prints an error with its remedy, and exits with 1.
fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# PATH separates folders by colons, Pulumi opens its state by a URL, and Node cannot load modules from a folder with a backslash.
case $ROOT in
*[[:cntrl:]]*) fail "the project's folder $ROOT has a line break or another control character in its path. Move or rename it." ;;
*[:%#?\\]*)
	sign=$(printf '%s' "$ROOT" | tr -cd ':%#?\134' | cut -c 1)
	fail "the project's folder $ROOT has a '$sign' in its path, with which Node or Pulumi cannot work. Move or rename it."
	;;
esac

# try_step NAME COMMAND...: runs the command with its output in a log, and prints one line with the seconds it took. Sets step_code to the
# command's exit code, and step_log to the log's path. Do not use it as a condition: in a condition, and in everything that it calls,
# `set -e` is off, even for jobs in bash, so that a partly failed step would count as successful.
try_step() {
	step_name=$1
	shift
	step_log="$LOCAL/log/$(printf '%s' "$step_name" | tr -c 'A-Za-z0-9\n' '-').log"
	mkdir -p "$LOCAL/log"
	printf '  %-58s' "$step_name" >&2
	step_start=$(date +%s)
	step_code=0
	# A separate job, whose exit code `wait` returns.
	"$@" >"$step_log" 2>&1 </dev/null &
	wait $! || step_code=$?
	if [ "$step_code" = 0 ]; then
		printf ' %4ss\n' "$(($(date +%s) - step_start))" >&2
	else
		printf ' failed\n' >&2
	fi
}

# step NAME COMMAND...: like try_step, but exits if the command fails.
step() {
	try_step "$@"
	[ "$step_code" = 0 ] && return
	tail -n 20 "$step_log" >&2
	fail "$step_name failed; the whole output is in $step_log"
}

# remembered KEY COMMAND...: caches the command's answer, yes (0) or no (1), for a day. Any other exit code means that there was no answer,
# for example because the network failed: this counts as no, and is not cached.
remembered() {
	probe="$LOCAL/probes/$1"
	shift
	if [ -z "$(find "$probe" -mmin -1440 2>/dev/null)" ]; then
		mkdir -p "$LOCAL/probes"
		rm -f "$probe"
		answer=0
		"$@" >/dev/null 2>&1 </dev/null || answer=$?
		case $answer in
		0) echo yes >"$probe" ;;
		1) echo no >"$probe" ;;
		*) return 1 ;;
		esac
	fi
	[ "$(cat "$probe")" = yes ]
}

# noted KEY COMMAND...: prints the command's output, cached for a day. If the command fails, prints its last output.
noted() {
	note="$LOCAL/probes/$1"
	shift
	if [ -z "$(find "$note" -mmin -1440 2>/dev/null)" ]; then
		mkdir -p "$LOCAL/probes"
		if "$@" >"$note.partial" 2>/dev/null </dev/null; then mv "$note.partial" "$note"; else rm -f "$note.partial"; fi
	fi
	cat "$note" 2>/dev/null || true
}
