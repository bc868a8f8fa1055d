# Shared by the scripts of this folder; to be sourced. POSIX sh.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
LOCAL="$ROOT/.local"
TOOLS="$LOCAL/toolchain"

# say WORDS...: one line to standard error, so that standard output stays for results.
say() { printf '%s\n' "$*" >&2; }

# fail WORDS...: an error with its remedy, and the end.
fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# step NAME COMMAND...: runs the command with its output in a log; prints one line with the seconds it took.
step() {
	step_name=$1
	shift
	step_log="$LOCAL/log/$(printf '%s' "$step_name" | tr -c 'A-Za-z0-9\n' '-').log"
	mkdir -p "$LOCAL/log"
	printf '  %-58s' "$step_name" >&2
	step_start=$(date +%s)
	# In a job of its own: a condition would switch `set -e` off inside the command, and a half done step would count as done.
	"$@" >"$step_log" 2>&1 </dev/null &
	if wait $!; then
		printf ' %4ss\n' "$(($(date +%s) - step_start))" >&2
	else
		printf ' failed\n' >&2
		tail -n 20 "$step_log" >&2
		fail "$step_name failed; its whole output is in $step_log"
	fi
}

# at_least HAVE WANT: whether a dotted version is at least another.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# remembered KEY COMMAND...: the command's verdict, asked at most once a day: what could not be reached an hour ago
# costs nothing now.
remembered() {
	probe="$LOCAL/probes/$1"
	shift
	if [ -z "$(find "$probe" -mmin -1440 2>/dev/null)" ]; then
		mkdir -p "$LOCAL/probes"
		if "$@" >/dev/null 2>&1 </dev/null; then echo yes >"$probe"; else echo no >"$probe"; fi
	fi
	[ "$(cat "$probe")" = yes ]
}
