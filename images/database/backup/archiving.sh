# In the database's container: archiving, and the restore_command of every recovery.
# shellcheck shell=sh

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
	if [ "$used" -lt "${BACKUP_GIVE_UP_AT:?}" ] || has_patience; then return 1; fi
	# Up to when all is archived; another file may have been given up since.
	printf '%s %s\n' "$(stat -c %Y "$ARCHIVED" 2>/dev/null || now)" "${1##*/}" >>"$GAPS" || return 1
	sync
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

has_archive_info() { pgb "$@" repo-ls archive/main 2>/dev/null | grep -qx archive.info; }

# A timeline's history is archived once, before anything of the timeline is. Where the repository was lost since, or it was given up
# then, nothing of that timeline could ever be restored.
push_histories() {
	for history in "$VOLUME"/pgdata/pg_wal/*.history; do
		[ ! -e "$history" ] || pgb --no-archive-async archive-push "$history" || :
	done
}
