#!/bin/sh
# shellcheck shell=dash  # `local` is not in POSIX, but in dash, busybox and bash
# Runs pgBackRest inside the containers: archiving, scheduled backups, a record of each backup's tables, drills and restores.
# Uses only tools that Debian and Alpine (busybox) share.
#
#   in the database's container:  prepare, recover SYSTEM, share-histories FOLDER, pgbackrest-push FILE, wal-get NAME PATH
#   in the backups' container:    serve, init [anew], run full|diff|drill, report, note-timeline, await-sessions ROLE
#   in a container of its own:    restore-aside FOLDER ARGUMENTS...
#   in any of them:               session PROGRAM ARGUMENTS..., for programs that connect to the server
#
# The functions are in backup/, one file for each part. Functions of a part share a prefix, and their variables are local. What
# common.sh and session.sh define has no prefix, because every part uses it. All variables that functions share are listed here.
set -eu

# --- Set in the container's environment (components/backups/backups.ts, components/server/database-server.ts) ---
#   BACKUP_DATABASE                         the application's database
#   BACKUP_FULL, BACKUP_DIFF, BACKUP_DRILL  schedules, as components/backups/schedule.ts writes them; empty for never
#   BACKUP_WAL_DROP_PERCENT                 percentage of the data's disk at which WAL that cannot be archived is dropped
#   RESTORE_UNSOUND                         "yes" to restore data in which the check finds damage

# --- Set while the script runs ---
# "yes" in `serve`, whose standard output is the container's log.
SERVING=no
# The process number of the current run. It is not $$, which is that of `serve` in its subshells.
RUN_PROCESS=
# Details of the current run, as members of a JSON object. `schedule_run` records them when the run ends.
RUN_DETAILS=
# The damage that the current drill has found in the restored data, in words.
DRILL_DAMAGE=
# The folder that the current restore fills, and removes unless it succeeds.
RESTORE_FOLDER=
# `record_fingerprints_at` also exports MEETING, the folder in which its sessions wait for each other, and FOLLOWING, the number of
# sessions that wait for the first one. `await-sessions` reads both in a process of its own.

# --- Constant ---
VOLUME=/var/lib/postgresql/data
STORE=/var/lib/sectorwars-backups
STATE=$STORE/state
# The files of a scratch server, and the folder with its socket and log.
SCRATCH=$STORE/scratch
SCRATCH_RUN=/tmp/scratch
# Output of programs. It is not on the repository's disk, because a full disk is one of the errors it reports.
OUTPUT=/tmp/output
# Notes that could not be written to a full disk.
UNWRITTEN=/tmp/unwritten
SHARE=/usr/local/share/sectorwars
# The state of archiving, in the data's volume beside the data, so that it survives the loss of the repository.
ARCHIVING_BEGAN=$VOLUME/archiving-began
ARCHIVING_GAPS=$VOLUME/archiving-gaps
# Its modification time is the time up to which all WAL is in the repository.
ARCHIVED_UNTIL=$VOLUME/archived-until
# What the last attempt at archiving printed, while attempts fail.
ARCHIVING_ERROR=$VOLUME/archiving-said
# The operating system that the data was made on: another one may sort text differently (start.sh).
MADE_ON=$VOLUME/made-on
# A copy of /run/recover, until the data has been recovered.
RECOVERING=$VOLUME/recovering
RESTORE_COMMAND='sectorwars-backup wal-get %f "%p"'
# Known damage, a line of JSON for each finding.
DAMAGE=$STATE/damage
# At most this many damaged files of one backup are named.
NAMED_FILES=50
# Seconds between two looks at the schedule.
SCHEDULE_SECONDS=5
# Looks at the schedule between two checks of the server's damage count. A crash resets that count, so it is recorded.
ROUNDS_PER_DAMAGE_LOOK=120
# Failures in a row after which the wait before the next attempt no longer grows.
LONGEST_WAIT_AFTER=9
# No WAL is dropped while fewer WAL files than this wait, if the room below is free as well.
PATIENCE_FILES=8
# Free room on the data's disk, in kB, above which PATIENCE_FILES counts.
PATIENCE_FREE_KB=262144
# The connection limit of a database whose DROP was interrupted (PostgreSQL 15.4). No role can connect to it any more.
INVALID_DATABASE=-2
# The application_name of sessions that count rows.
RECORDING=sectorwars-record

# shellcheck source=backup/limits.sh
. "$SHARE/limits.sh"
# shellcheck source=backup/common.sh
. "$SHARE/common.sh"
# shellcheck source=backup/session.sh
. "$SHARE/session.sh"
# shellcheck source=backup/server.sh
. "$SHARE/server.sh"
# shellcheck source=backup/repository.sh
. "$SHARE/repository.sh"
# shellcheck source=backup/notes.sh
. "$SHARE/notes.sh"
# shellcheck source=backup/archiving.sh
. "$SHARE/archiving.sh"
# shellcheck source=backup/recovery.sh
. "$SHARE/recovery.sh"
# shellcheck source=backup/scratch.sh
. "$SHARE/scratch.sh"
# shellcheck source=backup/damage.sh
. "$SHARE/damage.sh"
# shellcheck source=backup/record.sh
. "$SHARE/record.sh"
# shellcheck source=backup/take-backup.sh
. "$SHARE/take-backup.sh"
# shellcheck source=backup/drill.sh
. "$SHARE/drill.sh"
# shellcheck source=backup/schedule.sh
. "$SHARE/schedule.sh"
# shellcheck source=backup/report.sh
. "$SHARE/report.sh"
# shellcheck source=backup/restore.sh
. "$SHARE/restore.sh"

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
prepare) archive_prepare ;;
recover) recover_volume "$@" ;;
pgbackrest-push) archive_push "$@" ;;
wal-get) archive_get "$@" ;;
init) schedule_init "$@" ;;
serve) schedule_serve ;;
run) schedule_run "$@" ;;
report) report_write ;;
note-timeline) note_timeline ;;
share-histories) recover_share_histories "$@" ;;
await-sessions) record_await_sessions "$@" ;;
restore-aside) restore_run "$@" ;;
session) session "$@" ;;
*) fail "usage: sectorwars-backup prepare|recover|pgbackrest-push|wal-get|init|serve|run|report|note-timeline|share-histories|await-sessions|restore-aside|session" ;;
esac
