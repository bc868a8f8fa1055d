#!/bin/sh
# What surrounds pgBackRest inside containers: archiving, backups when they are due, a record of what each holds, drills,
# restores. POSIX sh, with the tools that Debian and Alpine (busybox) have in common.
#
#   in the database's container:  prepare, recover, pgbackrest-push FILE, wal-get NAME PATH
#   in the backups' container:    serve, init [anew], run full|diff|drill, report, note-timeline, meet ROLE, want-full
#   in a container of its own:    restore-aside FOLDER ARGUMENTS..., verify-words
set -eu

VOLUME=/var/lib/postgresql/data
STORE=/var/lib/sectorwars-backups
STATE=$STORE/state
SCRATCH=$STORE/scratch
ASIDE=/tmp/aside
# What the programs say goes elsewhere than to the repository's disk: a full one is among what they complain of.
OUTPUT=/tmp/output
UNWRITTEN=/tmp/unwritten
SHARE=/usr/local/share/sectorwars
# In the data's volume, outside the data: what the archiver must remember even when the repository is gone.
BEGAN=$VOLUME/archiving-began
GAPS=$VOLUME/archiving-gaps
# Its time stamp: up to when everything that was written is in the repository.
ARCHIVED=$VOLUME/archived-until
# What the last attempt at archiving said, while they fail.
SAID=$VOLUME/archiving-said
# What the data is being restored to, until it has been recovered.
RECOVERING=$VOLUME/recovering
RESTORE_COMMAND='sectorwars-backup wal-get %f "%p"'
# Seconds between two looks at the schedule.
PACE=5
# Before this many WAL files of 16 MB wait, or so little room is left (kB), no file is given up.
PATIENCE_FILES=8
PATIENCE_FREE_KB=262144

now() { date +%s; }

as_postgres() {
	if [ "$(id -u)" != 0 ]; then "$@"
	elif command -v gosu >/dev/null; then gosu postgres "$@"
	else su-exec postgres "$@"; fi
}

pgb() { as_postgres pgbackrest --stanza=main "$@"; }
sql() { as_postgres psql -X -q -A -t -v ON_ERROR_STOP=1 -d "${BACKUP_DATABASE:-postgres}" "$@"; }

# A text as JSON, on one line, without what a wrong key makes of words.
json() { printf '"%s"' "$(printf '%s' "$1" | tr '\n\t\r' '   ' | tr -cd '\040-\176' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# A line for the container's log, also from `docker exec`.
log() {
	line="{\"time\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\",$1}"
	printf '%s\n' "$line"
	if [ "${SERVING:-}" != yes ] && [ -w /proc/1/fd/1 ]; then printf '%s\n' "$line" >/proc/1/fd/1; fi
}

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# The words of an output that tell what went wrong: pgBackRest's and PostgreSQL's errors, or the last line.
cause() {
	said=$(tr -cd '\011\012\040-\176' <"$1" | grep -E 'ERROR|FATAL|PANIC|error:' |
		grep -vE 'not accepting connections|starting up' | tail -n 3 | cut -c1-600)
	[ -n "$said" ] || said=$(tail -n 1 "$1" | cut -c1-600)
	printf '%s' "${said#error: }"
}

# --- in the database's container -------------------------------------------------------------------------------------

# Puts the configuration, which holds the key, where only the server's user reads it. The file that Docker brings is root's.
prepare() {
	umask 077
	cp /run/pgbackrest.conf /etc/pgbackrest/pgbackrest.conf
	# The authority that has signed a store's certificate comes along as comments.
	sed -n 's/^# authority: //p' /run/pgbackrest.conf >/etc/pgbackrest/authority.pem
	chown postgres /etc/pgbackrest/pgbackrest.conf /etc/pgbackrest/authority.pem
	# A folder of the host's is root's at first. One that cannot be written is told by whoever wants to write there.
	for own in "$STORE" "$STORE/repository"; do
		mkdir -p "$own" 2>/dev/null || :
		if [ "$(stat -c %U "$own" 2>/dev/null)" = root ]; then chown -R postgres "$own" 2>/dev/null || :; fi
	done
}

# The server's archive_command; pgBackRest insists on finding its own name in that. Nothing is ever dropped in silence: a file
# that cannot be archived waits in pg_wal, until the disk holds less room than the stack was told to leave; then it is given
# up, with an entry in a list that the backups' container and every restore read.
push() {
	if said=$(pgb archive-push "$1" 2>&1); then
		[ -e "$BEGAN" ] || : >"$BEGAN"
		# The last moment that the file holds is that at which it was written to last, whenever it is archived.
		touch -r "$1" "$ARCHIVED" || :
		[ ! -e "$SAID" ] || rm -f "$SAID"
		return 0
	fi
	# No backup was ever begun, so nothing could be restored by this file: a first import need not wait for it.
	if [ ! -e "$BEGAN" ]; then
		case $said in *archive.info*) return 0 ;; esac
	fi
	said=$(printf '%s\n' "$said" | grep -a ERROR || printf '%s\n' "$said")
	printf '%s\n' "$said" >&2
	# Whoever waits for the file is told why it does not come. On a full disk there is no room for that either.
	{ printf '%s\n' "$said" >"$SAID.partial" && mv "$SAID.partial" "$SAID"; } 2>/dev/null || rm -f "$SAID.partial"
	used=$(df -Pk "$VOLUME" | awk 'NR == 2 { sub("%", "", $5); print $5 }')
	if [ "$used" -lt "${BACKUP_GIVE_UP_AT:-100}" ] || has_patience; then return 1; fi
	# Up to when all is archived; another file may have been given up since.
	printf '%s %s\n' "$(stat -c %Y "$ARCHIVED" 2>/dev/null || now)" "${1##*/}" >>"$GAPS" || return 1
	echo "ERROR: the WAL file ${1##*/} was given up: it cannot be archived, and the disk is $used % full (limit $BACKUP_GIVE_UP_AT %)." \
		"Until a new full backup is made, nothing later than this can be restored" >&2
}

# On a disk that is full of other things, a repository that is away for a minute is no reason to give anything up.
has_patience() {
	waiting=$(find "$PGDATA/pg_wal/archive_status" -name '*.ready' | wc -l)
	free=$(df -Pk "$VOLUME" | awk 'NR == 2 { print $4 }')
	[ "$waiting" -lt "$PATIENCE_FILES" ] && [ "$free" -gt "$PATIENCE_FREE_KB" ]
}

# Whether the repository lies in a store, and not in a folder here.
in_store() { grep -q '^repo1-type=' /etc/pgbackrest/pgbackrest.conf; }

# names FOLDER: what lies in a folder of the repository. Fails where that cannot be read, which is not the same as nothing. A folder
# that is here is looked at directly: a call of pgBackRest takes its time.
names() { if in_store; then pgb repo-ls "$1"; else ls "$STORE/repository/$1"; fi; }

# in_archive BEGINNING: the files in the archive's folders whose names begin so.
in_archive() {
	versions=$(names archive/main) || return 1
	for version in $(printf '%s\n' "$versions" | grep -E '^[0-9.]+-[0-9]+$'); do
		folders=$(names "archive/main/$version") || return 1
		for folder in $(printf '%s\n' "$folders" | grep "^$1"); do names "archive/main/$version/$folder" || return 1; done
	done
}

# What stops a recovery: PostgreSQL takes any exit code up to 125 for "there is no such file", and ends it there.
stop_recovery() {
	echo "ERROR: $*" >&2
	exit 126
}

# The restore_command of every recovery, which must never end early and silently at a file that is damaged, missing or cannot be
# read. pgBackRest hands out a file whose bytes were changed in the repository as long as it can be decompressed, and PostgreSQL
# takes the first record that makes no sense for the end of the log. So the content is compared with the sum that is part of the
# file's name.
wal_get() {
	code=0
	pgb --pg1-path="$PWD" archive-get "$1" "$2" || code=$?
	case $code in 0 | 1) ;; *) exit 126 ;; esac
	# A timeline's history is no segment.
	case $1 in *[!0-9A-F]*) exit "$code" ;; esac
	if [ "$code" = 1 ]; then refuse_hole "$1"; fi
	sum=$(sha1sum "$2" | cut -d ' ' -f 1)
	files=$(in_archive "${1%????????}") || stop_recovery "the repository cannot be listed"
	if ! printf '%s\n' "$files" | grep -q "^$1-$sum"; then
		stop_recovery "the WAL file $1 is damaged in the repository: its content has another checksum than it was archived with"
	fi
}

# There is no such file: the end of the archive, unless later ones are there.
refuse_hole() {
	timeline=${1%????????????????}
	wanted=$(sed -n "s/^recovery_target_timeline = '\([0-9]*\)'.*/\1/p" postgresql.auto.conf | tail -n 1)
	if [ -n "$wanted" ] && [ "$(printf '%08X' "$wanted")" != "$timeline" ]; then
		# Of a timeline that was left, every file is needed up to the one in which it was left, and PostgreSQL asks for some
		# later ones that need not be there.
		left=$(left_in "$timeline" "pg_wal/$(printf '%08X' "$wanted").history")
		if [ -n "$left" ] && [ "$left" \> "${1#????????}" ]; then stop_recovery "the WAL file $1 is missing in the repository"; fi
		exit 1
	fi
	files=$(in_archive "$timeline") || stop_recovery "the repository cannot be listed"
	newest=$(printf '%s\n' "$files" | grep -E '^[0-9A-F]{24}-' | sort | tail -n 1)
	if [ -n "$newest" ] && [ "${newest%%-*}" \> "$1" ]; then
		stop_recovery "the WAL file $1 is missing in the repository, while later ones are there"
	fi
	exit 1
}

# left_in TIMELINE HISTORY: the file, without its timeline, in which a timeline was left on the way that a history tells.
left_in() {
	[ -e "$2" ] || return 0
	while read -r parent position _; do
		case $parent in '' | *[!0-9]*) continue ;; esac
		if [ "$(printf '%08X' "$parent")" = "$1" ]; then
			printf '%08X%08X\n' "$((0x${position%/*}))" "$((0x${position#*/} >> 24))"
			return
		fi
	done <"$2"
}

# Fills an empty volume from the repository before the server's first start. /run/recover holds "latest" or seconds since 1970,
# then arguments for pgBackRest, one a line. pgBackRest writes global/pg_control last: with it the data is whole, without it a
# former run was cut short. As long as recovery.signal is there nobody has written to the data: what cannot be recovered to one
# time may be restored again for another.
recover() {
	if [ -e "$PGDATA/global/pg_control" ]; then
		if [ ! -e "$PGDATA/recovery.signal" ]; then
			# It must never be a reason to wipe this data later.
			rm -f "$RECOVERING"
			return
		fi
		if [ ! -e "$RECOVERING" ] || cmp -s "$RECOVERING" /run/recover; then return; fi
	elif [ ! -e "$PGDATA/backup.manifest" ] && [ ! -e "$RECOVERING" ] && [ -n "$(ls -A "$PGDATA" 2>/dev/null)" ]; then
		fail "$PGDATA holds something that is no PostgreSQL data; nothing is restored over it"
	fi
	cp /run/recover "$RECOVERING"
	rm -rf "$PGDATA"
	mkdir -p -m 0700 "$PGDATA"
	chown postgres "$PGDATA" "$VOLUME"
	# What this server writes belongs to the repository from its first record on: no file of it may be thought unneeded.
	: >"$BEGAN"
	{
		read -r moment
		set --
		while IFS= read -r argument; do set -- "$@" "$argument"; done
	} </run/recover
	timeline=$(timeline_at "$moment")
	[ -z "$timeline" ] || set -- "$@" "--target-timeline=$timeline"
	echo "restoring the data from the repository" >&2
	pgb restore --log-level-console=info --recovery-option="restore_command=$RESTORE_COMMAND" "$@" || {
		echo "FATAL: the data could not be restored from the repository" >&2
		exit 1
	}
}

# The timeline that was the server's own at a moment, as was noted in the repository. The one with the highest number need not
# be it: a restore that was undone leaves such a one behind.
timeline_at() {
	pgb --raw repo-get timelines 2>/dev/null | awk -v moment="$1" '
		NF && (moment == "latest" || $1 <= moment + 0 || !id) { id = $2 } END { if (id) print id }'
}

# --- a server aside, for looking at what was restored ----------------------------------------------------------------

# start_aside FOLDER ARCHIVE_MODE: without network, subscriptions or the settings of big machines, for this user alone.
# With archiving on and no command, the WAL of the new timeline waits for the server that will go on with it.
start_aside() {
	as_postgres mkdir -p -m 0700 "$ASIDE"
	echo 'local all all peer' | as_postgres tee "$ASIDE/hba.conf" >/dev/null
	as_postgres pg_ctl -D "$1" -w -t 1000000 -l "$ASIDE/log" start -o "-c config_file=/etc/postgresql/postgresql.conf \
		-c hba_file=$ASIDE/hba.conf -c listen_addresses='' -c unix_socket_directories=$ASIDE -c port=5432 \
		-c archive_mode=$2 -c archive_command='' -c shared_preload_libraries='' -c hot_standby=off -c shared_buffers=64MB \
		-c max_logical_replication_workers=0 -c log_min_messages=warning -c max_connections=20" >"$ASIDE/start" 2>&1 9>&- || return 1
	# Started is not recovered: until then it lets nobody in, and a recovery that fails ends it.
	until as_postgres psql -X -q -h "$ASIDE" -d postgres -c '' >/dev/null 2>&1; do
		as_postgres pg_ctl -D "$1" status >/dev/null 2>&1 || return 1
		sleep 0.2
	done
}

stop_aside() { as_postgres pg_ctl -D "$1" -w -m fast stop >/dev/null 2>&1; }

# control WORDS: what the data's own control file says of something.
control() { LC_ALL=C pg_controldata -D "$VOLUME/pgdata" 2>/dev/null | sed -n "s/^.*$1: *//p" | head -n 1; }

# What a killed run has left: its server first, then its files.
clear_scratch() {
	if [ -e "$SCRATCH/postmaster.pid" ]; then as_postgres pg_ctl -D "$SCRATCH" -m immediate stop >/dev/null 2>&1 || :; fi
	rm -rf "$SCRATCH" "$ASIDE"
}

amcheck() { as_postgres pg_amcheck -h "$ASIDE" --all --heapallindexed --install-missing; }

# --- in the backups' container ---------------------------------------------------------------------------------------

has_archive_info() { pgb "$@" repo-ls archive/main 2>/dev/null | grep -qx archive.info; }

# Begins to use the repository. One that was emptied is never begun anew by itself, one of another cluster never used.
init() {
	prepare
	as_postgres mkdir -p "$STATE/records"
	if [ -e "$BEGAN" ] && [ "${1:-}" != anew ] && ! has_archive_info; then
		fail "the repository is empty, but backups were made there: it was lost or replaced. Bring it back, or begin anew with: npm run backup -- --begin-anew"
	fi
	# A volume that was kept may have its schedule going already: that run ends at once where the repository is not its own.
	tries=0
	until said=$(pgb stanza-create 2>&1); do
		tries=$((tries + 1))
		case $said in *'[050]'*) [ "$tries" -lt 120 ] || fail "$said" ;; *) fail "$said" ;; esac
		sleep 0.5
	done
	# A server that was restored before is on a later timeline, whose history went to the repository that was lost.
	for history in "$VOLUME"/pgdata/pg_wal/*.history; do
		[ ! -e "$history" ] || pgb --no-archive-async archive-push "$history" || :
	done
	# Whatever was in the repository before, nobody knows what was archived since.
	want_full
	: >"$STATE/initialised"
	for kind in full diff drill; do [ -e "$STATE/$kind.slot" ] || slot_of "$kind" >"$STATE/$kind.slot"; done
	note_timeline
}

# The schedule's newest slot for a kind, 0 without one.
slot_of() {
	case $1 in full) plan=${BACKUP_FULL:-} ;; diff) plan=${BACKUP_DIFF:-} ;; drill) plan=${BACKUP_DRILL:-} ;; *) plan= ;; esac
	if [ -z "$plan" ]; then
		echo 0
		return
	fi
	# minutes|hours|days|months|weekdays|either
	printf '%s\n' "$plan" | {
		IFS='|' read -r minutes hours days months weekdays either
		awk -v now="$(now)" -v minutes="$minutes" -v hours="$hours" -v days="$days" -v months="$months" \
			-v weekdays="$weekdays" -v either="$either" -f "$SHARE/due.awk"
	}
}

number_in() { cat "$1" 2>/dev/null | grep . || echo 0; }

# put FILE TEXT: whole or not at all. On a full disk a note of a failure still reaches the report, from elsewhere.
put() {
	rm -f "$UNWRITTEN/${1##*/}"
	if { printf '%s\n' "$2" >"$1.partial" && mv "$1.partial" "$1"; } 2>/dev/null; then return 0; fi
	rm -f "$1.partial"
	mkdir -p "$UNWRITTEN"
	printf '%s\n' "$2" >"$UNWRITTEN/${1##*/}"
}

# noted FILE: what put has written.
noted() { cat "$UNWRITTEN/${1##*/}" 2>/dev/null || cat "$1" 2>/dev/null; }

forget() { rm -f "$1" "$UNWRITTEN/${1##*/}"; }

# What was given up, or written while backups were off, since the last gap that a full backup has closed: `since file`, a line
# each. By their names and not by their number: the list goes with the data's volume, and with the repository the closed ones.
open_gaps() {
	[ -e "$GAPS" ] || return 0
	awk -v closed="$(tail -n 1 "$STATE/gaps" 2>/dev/null | cut -d ' ' -f 4)" '
		{ line[NR] = $0; if ($2 "" == closed "") last = NR }
		END { for (n = last + 1; n <= NR; n++) print line[n] }' "$GAPS"
}

# A slot that was missed is made up for once; what failed is tried again after 1, 2, 4 ... minutes, at most 6 hours.
due() {
	failures=$(noted "$STATE/$1.failures")
	if [ -n "$failures" ]; then
		count=${failures% *} last=${failures#* }
		wait_for=21600
		if [ "$count" -lt 9 ]; then wait_for=$((30 << count)); fi
		passed=$(($(now) - last))
		if [ "$passed" -ge 0 ] && [ "$passed" -lt "$wait_for" ]; then return 1; fi
	fi
	if [ "$1" = full ]; then
		if [ ! -e "$STATE/full.ok" ] || [ -e "$STATE/full.wanted" ]; then return 0; fi
		if [ -n "$(open_gaps)" ]; then return 0; fi
	elif [ ! -e "$STATE/full.ok" ]; then
		return 1
	fi
	done_slot=$(number_in "$STATE/$1.slot")
	# The clock was moved back behind the last one: what it said is worth nothing.
	if [ "$done_slot" -gt "$(now)" ]; then done_slot=0; fi
	[ "$(slot_of "$1")" -gt "$done_slot" ]
}

# Kind and beginning of the run under way. One that was killed may have left its note.
running() {
	note=$(noted "$STATE/running") || return 0
	if [ -d "/proc/${note##* }" ]; then echo "${note% *}"; fi
}

# late KIND: seconds since which a run is due that nobody has begun; 0 where all is as it should be.
late() {
	slot=$(slot_of "$1")
	if [ "$slot" -gt "$(number_in "$STATE/$1.slot")" ]; then echo "$(($(now) - slot))"; else echo 0; fi
}

# A backup that was begun before the wish does not grant it: every wish has a text of its own.
want_full() { cat /proc/sys/kernel/random/uuid >"$STATE/full.wanted"; }
wish() { cat "$STATE/full.wanted" 2>/dev/null || echo none; }

labels() { pgb info --output=json | grep -o '"label":"[^"]*"' | cut -d '"' -f 4; }
newest_label() { labels | tail -n 1; }

# fork_of FOLDER TIMELINE: the timeline it left, and where.
fork_of() {
	awk 'NF { parent = $1; lsn = $2 } END { if (lsn) print parent, lsn; else print "0 0/0" }' \
		"$1/pg_wal/$(printf '%08X' "$2").history" 2>/dev/null || echo "0 0/0"
}

# Which timeline the server is on since when, for whoever asks for a time at which another one was.
note_timeline() {
	timeline=$(sql -c "SELECT timeline_id FROM pg_control_checkpoint()" 2>/dev/null) || return 0
	[ -n "$timeline" ] || return 0
	if [ "$(tail -n 1 "$STATE/timelines" 2>/dev/null | cut -d ' ' -f 2)" = "$timeline" ]; then return 0; fi
	# On another machine the repository alone knows the former ones.
	if [ ! -e "$STATE/timelines" ]; then
		for note in timelines gaps; do pgb --raw repo-get "$note" >"$STATE/$note" 2>/dev/null || rm -f "$STATE/$note"; done
	fi
	if [ "$(tail -n 1 "$STATE/timelines" 2>/dev/null | cut -d ' ' -f 2)" = "$timeline" ]; then return 0; fi
	printf '%s %s %s\n' "$(now)" "$timeline" "$(fork_of "$VOLUME/pgdata" "$timeline")" >>"$STATE/timelines"
	share_notes
}

# A recovery on another machine has nothing but the repository. Positions and times are no secrets.
share_notes() {
	for note in timelines gaps; do
		if [ -e "$STATE/$note" ]; then pgb --raw repo-put "$note" <"$STATE/$note" || :; fi
	done
}

# So that a backup can be proven where nothing else is left, what it holds lies beside it, encrypted as the backups are, with a sum at
# its end: a damaged text is decrypted to another one without an error.
share_records() {
	labels=$(labels)
	# A repository that cannot be read is no reason to forget anything.
	[ -n "$labels" ] || return 0
	shared=$(pgb repo-ls records 2>/dev/null) || shared=
	for label in $(ls "$STATE/records") $shared; do
		if ! printf '%s\n' "$labels" | grep -qxF "$label"; then
			rm -f "$STATE/records/$label"
			if printf '%s\n' "$shared" | grep -qxF "$label"; then pgb repo-rm "records/$label" || :; fi
		elif [ -e "$STATE/records/$label" ] && ! printf '%s\n' "$shared" | grep -qxF "$label"; then
			{ cat "$STATE/records/$label" && sha1sum <"$STATE/records/$label"; } | pgb repo-put "records/$label" || :
		fi
	done
}

# fetch_record LABEL: from the repository, where it is not known here. pgBackRest encrypts such a file by itself, but wants to be
# told the key to decrypt it; by its environment, which nobody sees who may not read the configuration.
fetch_record() {
	[ ! -e "$STATE/records/$1" ] || return 0
	(
		PGBACKREST_CIPHER_PASS=$(sed -n 's/^repo1-cipher-pass=//p' /etc/pgbackrest/pgbackrest.conf)
		export PGBACKREST_CIPHER_PASS
		pgb repo-get "records/$1" 2>/dev/null
	) >"$OUTPUT.fetched" || return 1
	sed '$d' "$OUTPUT.fetched" >"$STATE/records/$1.partial" || return 1
	if [ "$(sha1sum <"$STATE/records/$1.partial")" != "$(tail -n 1 "$OUTPUT.fetched")" ]; then
		rm -f "$STATE/records/$1.partial"
		return 1
	fi
	mv "$STATE/records/$1.partial" "$STATE/records/$1"
}

# databases [ARGUMENTS FOR PSQL]: all that can hold anything of anybody's.
databases() {
	sql "$@" -c "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname COLLATE \"C\""
}

# fingerprints ARGUMENTS FOR PSQL...: a line for every table of every database, where nobody writes.
fingerprints() {
	databases "$@" >/tmp/databases || return 1
	while IFS= read -r database; do
		sql "$@" -d "$database" -v role=alone -f "$SHARE/fingerprints.sql" </dev/null || return 1
	done </tmp/databases
}

# fingerprints_at POINT: the same while others write, at a restore point that is made for it: a session for each database.
fingerprints_at() {
	export MEETING="$STATE/meeting"
	rm -rf "$MEETING"
	as_postgres mkdir -p -m 0700 "$MEETING"
	databases >"$MEETING/databases" || return 1
	FOLLOWING=$(($(wc -l <"$MEETING/databases") - 1))
	export FOLLOWING
	sessions=0
	role=leading
	while IFS= read -r database; do
		sessions=$((sessions + 1))
		{
			sql -d "$database" -v role="$role" -v point="$1" -f "$SHARE/fingerprints.sql" </dev/null || : >"$MEETING/failed"
		} >"$MEETING/$sessions.rows" 2>"$MEETING/$sessions.said" &
		role=following
	done <"$MEETING/databases"
	wait
	cat "$MEETING"/*.said >&2
	[ ! -e "$MEETING/failed" ] || return 1
	# One that was made or dropped meanwhile would be missing here or there.
	databases | cmp -s - "$MEETING/databases" || return 1
	seq "$sessions" | while read -r session; do cat "$MEETING/$session.rows"; done
	rm -rf "$MEETING"
}

# meet leading|following: what fingerprints.sql waits for while it holds its locks, a second at most; yes or no, for psql.
meet() {
	waited=0
	[ "$1" = leading ] || : >"$MEETING/locked.$$"
	until has_met "$1"; do
		waited=$((waited + 1))
		if [ -e "$MEETING/failed" ] || [ "$waited" -gt 40 ]; then
			echo no
			return
		fi
		sleep 0.02
	done
	echo yes
}

has_met() {
	if [ "$1" = following ]; then [ -e "$MEETING/made" ]
	else [ "$(find "$MEETING" -name 'locked.*' | wc -l)" -ge "$FOLLOWING" ]; fi
}

# timeline_of LABEL: the timeline on which a backup ended, as WAL files' names begin.
timeline_of() {
	pgb info --output=json | grep -oE '"(stop|label)":"[^"]*"' | cut -d '"' -f 4 |
		awk -v label="$1" '$0 == label { print substr(stop, 1, 8) } { stop = $0 }'
}

# The server's timeline, and since when it runs: a restore, or its undoing, changes both.
life() { sql -c "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), pg_postmaster_start_time()"; }

# record NAME LABEL: what every table holds at a restore point behind the backup, so that a drill can compare exactly.
record() {
	tries=0
	while :; do
		point="${1}_$tries"
		life=$(life 2>/dev/null) || life=
		if rows=$(fingerprints_at "$point" 2>"$OUTPUT.record"); then break; fi
		tries=$((tries + 1))
		# A transaction that writes for long must not be waited for in front of everybody else.
		if [ "$tries" -ge 12 ]; then return 1; fi
		sleep "$((tries * tries / 4 + 1))"
	done
	file=$(sql -c "SELECT pg_walfile_name(pg_switch_wal())")
	timeline=${life%%|*}
	# A restore point on one timeline cannot be reached from a backup of another.
	if [ "$timeline" != "$(timeline_of "$2")" ] || [ "$(life)" != "$life" ]; then
		echo "the data was exchanged by a restore since the backup was begun; one of the present data is needed" >"$OUTPUT.record"
		return 1
	fi
	waited=0
	until [ "$(sql -c "SELECT coalesce(last_archived_wal, '') COLLATE \"C\" >= '$file' FROM pg_stat_archiver")" = t ]; do
		waited=$((waited + 1))
		if [ "$waited" -gt 120 ]; then
			echo "the WAL file $file was not archived within a minute" >"$OUTPUT.record"
			return 1
		fi
		sleep 0.5
	done
	printf '%s\n%s\n%s\n' "$point" "$((0x$timeline))" "$rows" >"$STATE/records/$1.partial"
	mv "$STATE/records/$1.partial" "$STATE/records/$1"
}

# pgBackRest makes no full backup that would be named earlier than the last one; what it names after that one it does make.
instead_of_full() {
	pgb --type=diff backup >"$OUTPUT.diff" 2>&1 || return 0
	echo "error: the clock was moved back behind the last backup's: a differential one was made, full ones follow when it is past that" >>"$OUTPUT"
}

backup() {
	gaps=$(open_gaps)
	wish=$(wish)
	if ! pgb --type="$1" backup >"$OUTPUT" 2>&1; then
		if [ "$1" = full ] && grep -q 'is not later than latest backup label' "$OUTPUT"; then instead_of_full; fi
		return 1
	fi
	label=$(newest_label)
	if [ -z "$label" ]; then
		# Without its name nobody knows whether it is a full one, which would close a gap.
		echo "error: the backup was made, but the repository does not list it" >"$OUTPUT"
		return 1
	fi
	if in_store; then bytes=$(pgb info --output=json | grep -o '"repository":{"delta":[0-9]*' | tail -n 1 | grep -o '[0-9]*$')
	else bytes=$(bytes_of "$STORE/repository/backup/main/$label"); fi
	details="\"label\":$(json "$label"),\"bytes\":${bytes:-null}"
	if record "$label" "$label"; then details="$details,\"recorded\":true"
	else details="$details,\"recorded\":false,\"warning\":$(json "what it holds was not written down: $(cause "$OUTPUT.record")")"; fi
	case $label in
	*_*) ;;
	*)
		if [ "$(wish)" = "$wish" ]; then rm -f "$STATE/full.wanted"; fi
		if [ -n "$gaps" ]; then
			printf '%s\n' "$gaps" | awk -v until="$label" -v closed="$(now)" '
				NR == 1 { from = $1; first = $2 } { last = $2 } END { print from, closed, first, last, until }' >>"$STATE/gaps"
		fi
		put "$STATE/diff.slot" "$(slot_of diff)"
		;;
	esac
	share_notes
	share_records
}

# pgBackRest's verify exits with 0 and says "completed" whatever it finds; what counts is the word behind "status".
verify_words() {
	pgb verify --output=text --verbose >"$OUTPUT.verify" 2>&1 || return 1
	grep -q 'status: ok' "$OUTPUT.verify" && ! grep -qE 'status: error|ERROR' "$OUTPUT.verify"
}

drill() {
	clear_scratch
	label=$(newest_label)
	if [ -z "$label" ]; then
		pgb info >"$OUTPUT" 2>&1 || :
		echo "error: there is no backup to be read: $(tail -n 3 "$OUTPUT")" >"$OUTPUT"
		return 1
	fi
	known=$(pgb info --output=json | grep -o '"system-id":[0-9]*' | tail -n 1)
	if [ "${known#*:}" != "$(control "system identifier")" ]; then
		echo "error: the repository belongs to another database" >"$OUTPUT"
		return 1
	fi
	details="\"label\":$(json "$label")"
	name=$label
	compared=recorded
	if ! fetch_record "$label"; then
		# Taken without a record, or the record was lost: what the tables hold now is as good.
		name=now
		compared=present
		if ! record "$name" "$label"; then
			echo "error: $(cause "$OUTPUT.record")" >"$OUTPUT"
			return 1
		fi
	fi
	{ read -r point; read -r timeline; } <"$STATE/records/$name"
	tail -n +3 "$STATE/records/$name" >/tmp/expected
	verify_words || {
		echo "error: pgBackRest's verify finds damage: $(grep -aE 'ERROR|status: invalid|missing: [1-9]|(invalid|other): [1-9]' "$OUTPUT.verify" | head -n 3 | tr -s ' \n' ' ')" >"$OUTPUT"
		return 1
	}
	as_postgres mkdir -p -m 0700 "$SCRATCH"
	pgb restore --set="$label" --pg1-path="$SCRATCH" --type=name --target="$point" --target-timeline="$timeline" \
		--target-action=promote --archive-mode=off --recovery-option="restore_command=$RESTORE_COMMAND" >"$OUTPUT" 2>&1 || return 1
	if ! start_aside "$SCRATCH" off; then
		cat "$ASIDE/start" "$ASIDE/log" >"$OUTPUT" 2>/dev/null
		return 1
	fi
	amcheck >"$OUTPUT" 2>&1 || {
		echo "error: pg_amcheck: $(head -n 3 "$OUTPUT" | tr '\n' ' ')" >"$OUTPUT"
		return 1
	}
	fingerprints -h "$ASIDE" >/tmp/found 2>"$OUTPUT" || return 1
	if ! cmp -s /tmp/expected /tmp/found; then
		differing=$(awk -F '\t' 'NR == FNR { want[$1] = $0; next } want[$1] != $0 { print $1 } { delete want[$1] } END { for (t in want) print t }' \
			/tmp/expected /tmp/found | head -n 5 | tr '\n' ' ')
		echo "error: tables differ from what the database held when the backup was made: $differing" >"$OUTPUT"
		return 1
	fi
	details="$details,\"compared\":\"$compared\",$(awk -F '\t' '{ n++; rows += $2 } END { printf "\"tables\":%d,\"rows\":%.0f", n, rows }' /tmp/found)"
}

# run KIND: one at a time, whoever asks. A run that was killed holds nothing: the lock ends with its processes. On a full disk
# its notes cannot be written, but its line in the log can.
run() {
	set +e
	kind=$1
	exec 9>>"$STATE/lock"
	if ! flock -n 9; then
		# shellcheck disable=SC2046
		set -- $(noted "$STATE/running" || echo "something $(now)")
		echo "error: a run is under way ($1, for $(($(now) - $2)) s)" >&2
		exit 75
	fi
	begin=$(now)
	# Not $$, which in a subshell of `serve` is that one's: a run that was killed would count as under way for ever.
	read -r self _ </proc/self/stat
	put "$STATE/running" "$kind $begin $self"
	slot=$(slot_of "$kind")
	details=
	code=0
	: >"$OUTPUT"
	if [ "$kind" = drill ]; then drill || code=1; else backup "$kind" || code=1; fi
	if [ "$kind" = drill ]; then clear_scratch; fi
	finished=$(now)
	details="\"finished\":$finished,\"seconds\":$((finished - begin))${details:+,$details}"
	if [ "$code" = 0 ]; then
		put "$STATE/$kind.slot" "$slot"
		put "$STATE/$kind.ok" "{$details}"
		forget "$STATE/$kind.failed"
		forget "$STATE/$kind.failures"
		log "\"run\":\"$kind\",\"result\":\"ok\",$details"
	else
		failures=$(noted "$STATE/$kind.failures")
		put "$STATE/$kind.failures" "$((${failures%% *} + 1)) $finished"
		details="$details,\"error\":$(json "$(cause "$OUTPUT")")"
		put "$STATE/$kind.failed" "{$details}"
		log "\"run\":\"$kind\",\"result\":\"failed\",$details"
	fi
	forget "$STATE/running"
	exec 9>&-
	return "$code"
}

serve() {
	SERVING=yes
	prepare
	as_postgres mkdir -p "$STATE/records"
	forget "$STATE/running"
	clear_scratch
	trap 'exit 0' TERM INT
	while :; do
		if [ -e "$STATE/initialised" ]; then
			note_timeline || :
			for kind in full diff drill; do
				if due "$kind"; then (run "$kind") || :; fi &
				wait $! || :
			done
		fi
		sleep "$PACE" &
		wait $! || :
	done
}

bytes_of() { echo "$(($(du -sk "$1" 2>/dev/null | cut -f 1 | grep . || echo 0) * 1024))"; }
# room NAME FOLDER: size of its disk, and what is free there.
room() {
	df -Pk "$2" 2>/dev/null | awk -v name="$1" 'NR == 2 { size = $2; free = $4 }
		END { printf "\"%sSize\":%.0f,\"%sFree\":%.0f,\n", name, size * 1024, name, free * 1024 }'
}
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
	archiver=$(sql -c "
		SELECT json_build_object('archived', archived_count, 'failed', failed_count, 'lastArchived', last_archived_wal,
			'lastArchivedAt', extract(epoch FROM last_archived_time)::float8, 'lastFailed', last_failed_wal,
			'lastFailedAt', extract(epoch FROM last_failed_time)::float8, 'timeline', c.timeline_id)
		FROM pg_stat_archiver, pg_control_checkpoint() c" 2>/dev/null) || archiver=null
	echo '{'
	printf '"now":%s,"database":%s,\n' "$(now)" "$(json "${BACKUP_DATABASE:-}")"
	printf '"info":%s,"infoSaid":%s,\n' "$info" "$(json "$said")"
	for kind in full diff drill; do
		printf '"%s":{"ok":%s,"failed":%s,"late":%s},\n' "$kind" "$(noted_or_null "$STATE/$kind.ok")" \
			"$(noted_or_null "$STATE/$kind.failed")" "$(late "$kind")"
	done
	printf '"running":%s,\n' "$(json "$(running)")"
	printf '"archiver":%s,\n' "${archiver:-null}"
	# Also of a server that is down.
	printf '"systemIdentifier":%s,\n' "$(json "$(control "system identifier")")"
	printf '"archivedUntil":%s,\n' "$(stat -c %Y "$ARCHIVED" 2>/dev/null || echo 0)"
	printf '"archivingSaid":%s,\n' "$(json "$(cat "$SAID" 2>/dev/null)")"
	printf '"giveUpAt":%s,\n' "${BACKUP_GIVE_UP_AT:-100}"
	printf '"waiting":%s,\n' "$(find "$VOLUME/pgdata/pg_wal/archive_status" -name '*.ready' 2>/dev/null | wc -l)"
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

# --- in a container of its own ---------------------------------------------------------------------------------------

# restore_aside FOLDER ARGUMENTS...: restores beside the data, brings the server up without network, checks all of it, sets
# today's passwords, and stops it cleanly. Standard input is the configuration, a line "-- SQL --", and SQL for the end.
# Fails with nothing left, or ends with a folder that can take the data's place.
restore_aside() {
	restored=$VOLUME/$1
	shift
	umask 077
	cat >/run/input
	sed '/^-- SQL --$/,$d' /run/input >/run/pgbackrest.conf
	sed '1,/^-- SQL --$/d' /run/input >/run/last.sql
	rm -f /run/input
	chown postgres /run/last.sql
	prepare
	[ ! -e "$restored" ] || fail "$restored is there already"
	trap 'stop_aside "$restored" || :; rm -rf "$restored"' EXIT
	trap 'exit 130' INT TERM
	mkdir -m 0700 "$restored"
	chown postgres "$restored"
	echo "restoring the files" >&2
	pgb restore --pg1-path="$restored" --recovery-option="restore_command=$RESTORE_COMMAND" "$@" >/tmp/output 2>&1 || fail "$(cause /tmp/output)"
	echo "recovering up to the time that was asked for" >&2
	if ! start_aside "$restored" on; then
		last=$(grep -ao 'last completed transaction was at log time .*' "$ASIDE/log" | tail -n 1)
		fail "the recovery failed: $(cause "$ASIDE/log")${last:+. The $last}"
	fi
	echo "checking every table and index" >&2
	sql -h "$ASIDE" -d postgres -c "SELECT datname FROM pg_database WHERE datallowconn" >/tmp/all-databases
	while IFS= read -r database; do
		known=$(sql -h "$ASIDE" -d "$database" -c "SELECT 1 FROM pg_extension WHERE extname = 'amcheck'" </dev/null)
		[ -n "$known" ] || printf '%s\n' "$database"
	done </tmp/all-databases >/tmp/without-amcheck
	amcheck >/tmp/output 2>&1 || fail "pg_amcheck: $(head -n 3 /tmp/output)"
	fingerprints -h "$ASIDE" >/tmp/found 2>/tmp/output || fail "a table cannot be read: $(cause /tmp/output)"
	awk -F '\t' '{ n++; rows += $2 } END { printf "tables %d\nrows %.0f\n", n, rows }' /tmp/found
	# What the check has brought along is no part of the data.
	while IFS= read -r database; do sql -h "$ASIDE" -d "$database" -c "DROP EXTENSION amcheck" </dev/null; done </tmp/without-amcheck
	echo "reached $(fork_of "$restored" "$(sql -h "$ASIDE" -c "SELECT timeline_id FROM pg_control_checkpoint()")")"
	for setting in restore_command recovery_target recovery_target_time recovery_target_name recovery_target_action \
		recovery_target_timeline; do
		sql -h "$ASIDE" -c "ALTER SYSTEM RESET $setting"
	done
	# Roles' passwords are the backup's; the stack's own are newer, or the same.
	sql -h "$ASIDE" -d postgres -f /run/last.sql >/dev/null || fail "the roles' passwords could not be set"
	stop_aside "$restored" || fail "the restored server did not stop cleanly"
	sync
	trap - EXIT
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
prepare) prepare ;;
recover) recover ;;
pgbackrest-push) push "$@" ;;
wal-get) wal_get "$@" ;;
init) init "$@" ;;
serve) serve ;;
run) run "$@" ;;
report) report ;;
note-timeline) note_timeline ;;
meet) meet "$@" ;;
want-full)
	want_full
	# One that failed because the server was exchanged under it is no reason to wait.
	forget "$STATE/full.failures"
	;;
restore-aside) restore_aside "$@" ;;
*) fail "usage: sectorwars-backup prepare|recover|pgbackrest-push|wal-get|init|serve|run|report|note-timeline|meet|want-full|restore-aside" ;;
esac
