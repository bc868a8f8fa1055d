#!/bin/sh
# shellcheck shell=dash  # `local` is not in POSIX, but in dash, busybox and bash
# Runs a streaming replica of the stack's server. Its volume contains nothing but a copy of the primary's data, so a copy that cannot follow
# the primary is cloned anew: after a restore, which puts the primary on another timeline, or when the slot has lost WAL.
#
#   sectorwars-replica postgres ARGUMENTS...  clones the data if necessary, then starts the server
#   sectorwars-replica healthy                succeeds if the replica streams from the primary
#
# Environment (components/replicas/replica-container.ts):
#   REPLICA_NAME   name of the replica, of its replication slot, and of its connection (application_name)
#   PRIMARY_HOST   the primary's name in the network
#   PRIMARY_ROLE   the role that replicates; its password is in /run/primary-password
set -eu

# Seconds between two comparisons with the primary.
INTERVAL=5
VOLUME=/var/lib/postgresql/data
CLONE=$VOLUME/clone
PASSFILE=$VOLUME/primary.pass
# shellcheck source=backup/common.sh
. /usr/local/share/sectorwars/common.sh

say() { printf '%s replica: %s\n' "$(date -u '+%Y-%m-%d %H:%M:%S UTC')" "$*" >&2; }

# conninfo SUFFIX: how this replica connects to the primary. The suffix tells its sessions apart.
conninfo() {
	printf 'host=%s port=5432 user=%s passfile=%s connect_timeout=5 application_name=%s' \
		"$PRIMARY_HOST" "$PRIMARY_ROLE" "$PASSFILE" "$REPLICA_NAME$1"
}

# ask COMMAND...: runs commands of the replication protocol on the primary (PostgreSQL manual, "Streaming Replication Protocol"). They run
# no code of a database.
ask() {
	local command
	for command; do
		set -- "$@" -c "$command"
		shift
	done
	as_postgres psql -X -q -A -t -F ' ' -d "$(conninfo -check) replication=true" "$@"
}

# lsn_number LSN: the position as a number.
lsn_number() { echo "$((0x${1%/*} * 4294967296 + 0x${1#*/}))"; }

# control_value NAME: a line of the control file.
control_value() { LC_ALL=C pg_controldata -D "$PGDATA" | sed -n "s/^$1: *//p"; }

# read_primary: sets primary_system, primary_timeline, primary_lsn, and slot_lsn, which is empty without a usable slot.
read_primary() {
	local said kind
	said=$(ask IDENTIFY_SYSTEM "READ_REPLICATION_SLOT $REPLICA_NAME" 2>&1) || {
		primary_error=${said##*error: }
		return 1
	}
	read -r primary_system primary_timeline primary_lsn <<-EOF
		$(printf '%s\n' "$said" | sed -n 1p)
	EOF
	read -r kind slot_lsn _ <<-EOF || true
		$(printf '%s\n' "$said" | sed -n 2p)
	EOF
	[ "$kind" = physical ] || slot_lsn=
	# A slot that has lost WAL has no position; the next column moves up.
	case $slot_lsn in */*) ;; *) slot_lsn= ;; esac
}

await_primary() {
	local waited=0
	until read_primary; do
		[ "$((waited % 30))" != 0 ] || say "waiting for the primary $PRIMARY_HOST: $primary_error"
		sleep 1
		waited=$((waited + 1))
	done
}

# why_clone: prints why the copy cannot follow the primary; nothing if it can.
why_clone() {
	local end
	if [ ! -e "$PGDATA/PG_VERSION" ]; then
		echo "the volume is empty"
	elif [ "$(control_value 'Database system identifier')" != "$primary_system" ]; then
		echo "the primary has another database cluster now"
	elif [ "$(timeline_in "$PGDATA")" != "$primary_timeline" ]; then
		echo "the primary is on timeline $primary_timeline, this copy on $(timeline_in "$PGDATA")"
	elif [ -z "$slot_lsn" ]; then
		echo "the primary keeps no WAL for this replica: its replication slot is lost"
	else
		end=$(control_value 'Minimum recovery ending location')
		[ "$(lsn_number "$end")" -le "$(lsn_number "$primary_lsn")" ] || echo "this copy ($end) is ahead of the primary ($primary_lsn)"
	fi
}

# clone WHY: copies the primary's data. The folder gets its final name when it is complete, so a partial copy is never started.
clone() {
	say "cloning the data of $PRIMARY_HOST, because $1"
	rm -rf "$PGDATA" "$CLONE"
	case $(ask "READ_REPLICATION_SLOT $REPLICA_NAME") in
	physical*) ask "DROP_REPLICATION_SLOT $REPLICA_NAME WAIT" ;;
	esac
	ask "CREATE_REPLICATION_SLOT $REPLICA_NAME PHYSICAL (RESERVE_WAL)" >/dev/null
	as_postgres pg_basebackup -d "$(conninfo -clone)" -D "$CLONE" -X stream -S "$REPLICA_NAME" --checkpoint=fast
	as_postgres touch "$CLONE/standby.signal"
	sync
	mv "$CLONE" "$PGDATA"
	sync
	say "cloned"
}

# stop_server SIGNAL WHY: ends the server, and with it the container. Docker starts it again, and the start decides what to do.
stop_server() {
	say "stopping, because $2"
	kill -s "$1" "$(head -n 1 "$PGDATA/postmaster.pid")" 2>/dev/null || true
}

# watch TIMELINE: compares the running copy with the primary, so that the replica does not serve rows that a restore has undone.
watch() {
	local why
	while sleep "$INTERVAL"; do
		[ -s "$PGDATA/postmaster.pid" ] || continue
		if [ ! -e "$PGDATA/standby.signal" ]; then
			stop_server INT "it was promoted. A replica of this stack must not become a database of its own"
		elif read_primary; then
			why=
			[ "$primary_timeline" = "$1" ] || why="the primary is on timeline $primary_timeline, this copy on $1"
			[ -n "$slot_lsn" ] || why="its replication slot on the primary is lost"
			[ "$primary_system" = "$system" ] || why="the primary has another database cluster now"
			# The data will be cloned anew, so nothing of it needs to be written.
			[ -z "$why" ] || stop_server QUIT "$why"
		fi
	done
}

# Parameters with which a replica must not be below the primary (PostgreSQL manual, "Hot Standby"), with their names in the control file.
# The container may be changed before or after the primary's, so the larger value applies.
larger_parameters() {
	local parameter name needed
	while read -r parameter name; do
		needed=$(control_value "$name setting")
		if [ "$(as_postgres "$@" -D "$PGDATA" -C "$parameter")" -lt "$needed" ]; then printf ' -c %s=%s' "$parameter" "$needed"; fi
	done <<-EOF
		max_connections max_connections
		max_worker_processes max_worker_processes
		max_wal_senders max_wal_senders
		max_prepared_transactions max_prepared_xacts
		max_locks_per_transaction max_locks_per_xact
	EOF
}

start() {
	local why larger
	chown postgres:postgres "$VOLUME"
	(umask 077 && printf '%s:5432:*:%s:%s\n' "$PRIMARY_HOST" "$PRIMARY_ROLE" "$(cat /run/primary-password)" >"$PASSFILE")
	chown postgres:postgres "$PASSFILE"
	if [ -e "$PGDATA/PG_VERSION" ] && [ ! -e "$PGDATA/standby.signal" ]; then
		fatal "the volume of $REPLICA_NAME contains a database that is not a copy (it was promoted, or the volume is another server's)." \
			"Nothing was changed. To clone the primary into it, remove the container and the volume, then: pulumi refresh, pulumi up"
	fi
	await_primary
	why=$(why_clone)
	if [ -n "$why" ]; then clone "$why"; fi
	larger=$(larger_parameters "$@")
	system=$(control_value 'Database system identifier')
	# The loop becomes a child of the container's init process. As a child of the server, its exit would count as a crash.
	(watch "$(timeline_in "$PGDATA")" &)
	# shellcheck disable=SC2086  # options without spaces
	exec docker-entrypoint.sh "$@" $larger -c "primary_conninfo=$(conninfo '')" -c "primary_slot_name=$REPLICA_NAME" \
		-c recovery_target_timeline=current -c hot_standby_feedback=on -c wal_receiver_status_interval=1s
}

case ${1:-} in
postgres) start "$@" ;;
healthy)
	[ "$(sectorwars-backup session psql -X -A -t -d postgres \
		-c "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")" = 1 ]
	;;
*) fatal "usage: sectorwars-replica postgres ARGUMENTS... | healthy" ;;
esac
