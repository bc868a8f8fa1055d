# shellcheck shell=sh
# Shared by the scripts of this folder; to be sourced. POSIX sh.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
LOCAL="$ROOT/.local"
# shellcheck disable=SC2034  # the scripts that source this file use it
TOOLS="$LOCAL/toolchain"
. "$ROOT/script/portable.sh"

# say WORDS...: one line to standard error, so that standard output stays for results.
say() { printf '%s\n' "$*" >&2; }

# fail WORDS...: an error with its remedy, and the end.
fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# PATH has a colon between folders, Pulumi opens its state by a URL, and Node refuses modules in a folder with a backslash.
case $ROOT in
*[[:cntrl:]]*) fail "the project's folder $ROOT has a line break or another control character in its path. Move or rename it." ;;
*[:%#?\\]*)
	sign=$(printf '%s' "$ROOT" | tr -cd ':%#?\134' | cut -c 1)
	fail "the project's folder $ROOT has a '$sign' in its path, with which Node or Pulumi cannot work. Move or rename it."
	;;
esac

# try_step NAME COMMAND...: runs the command with its output in a log; prints one line with the seconds it took. Leaves the command's
# code in step_code, and the log's name in step_log. It is no condition by itself: in a condition, and in all that is called there, `set -e`
# is off, so that a half done step would count as done. Bash applies this even to jobs.
try_step() {
	step_name=$1
	shift
	step_log="$LOCAL/log/$(printf '%s' "$step_name" | tr -c 'A-Za-z0-9\n' '-').log"
	mkdir -p "$LOCAL/log"
	printf '  %-58s' "$step_name" >&2
	step_start=$(date +%s)
	step_code=0
	# In a job of its own, whose code `wait` tells.
	"$@" >"$step_log" 2>&1 </dev/null &
	wait $! || step_code=$?
	if [ "$step_code" = 0 ]; then
		printf ' %4ss\n' "$(($(date +%s) - step_start))" >&2
	else
		printf ' failed\n' >&2
	fi
}

# step NAME COMMAND...: as try_step, but a command that fails is the end.
step() {
	try_step "$@"
	[ "$step_code" = 0 ] && return
	tail -n 20 "$step_log" >&2
	fail "$step_name failed; its whole output is in $step_log"
}

# remembered KEY COMMAND...: the command's answer, yes (0) or no (1), asked at most once a day. Any other code means that there was no
# answer, because the network failed for instance: that counts as no this time, and is asked again the next.
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

# noted KEY COMMAND...: prints what the command prints, asked at most once a day. Where it fails, what it printed the last time.
noted() {
	note="$LOCAL/probes/$1"
	shift
	if [ -z "$(find "$note" -mmin -1440 2>/dev/null)" ]; then
		mkdir -p "$LOCAL/probes"
		if "$@" >"$note.partial" 2>/dev/null </dev/null; then mv "$note.partial" "$note"; else rm -f "$note.partial"; fi
	fi
	cat "$note" 2>/dev/null || true
}
