# shellcheck shell=dash disable=SC2034  # the scripts that source this use it
# Numbers that the image and the program must agree on. The program reads this file too (lib/image-limits.ts): NAME=VALUE, one a line.

# A backup reaches every moment from this many seconds after the second in which pgBackRest says that it ended.
REACHABLE_AFTER_SECONDS=1
# Room that a drill or a restore leaves for the running server, in kB. A drill leaves a tenth of a disk of less than ten times that.
ROOM_LEFT_KB=1048576
# The advisory lock that pgBackRest holds in the database `postgres` while it makes a backup (PG_BACKUP_ADVISORY_LOCK in its db/db.c).
# A copy of a database by its files holds it too (lib/backup-lock.ts).
BACKUP_LOCK=12340078987004321
