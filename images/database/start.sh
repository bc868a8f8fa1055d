#!/bin/sh
# Starts the server, unless the data was made on another operating system: C libraries sort text differently, and an
# index that was built by other rules answers wrongly without any error.
set -eu

if [ "${1:-}" = postgres ]; then
	# shellcheck source=/dev/null
	here=$(. /etc/os-release && echo "$ID ${VERSION_ID%%.*}")
	# musl sorts by bytes in every release.
	case $here in alpine*) here=alpine ;; esac
	note=/var/lib/postgresql/data/made-on
	if [ -s "$note" ] && [ "$(cat "$note")" != "$here" ]; then
		echo "FATAL: the data in this volume was made on $(cat "$note"), this image is $here: text would be sorted by other" >&2
		echo "rules than its indexes were. Set baseImage to an image on $(cat "$note"), or reset the stack." >&2
		exit 1
	fi
	[ -s "$note" ] || echo "$here" >"$note"
fi
exec docker-entrypoint.sh "$@"
