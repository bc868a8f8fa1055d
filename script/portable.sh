# Replacements for commands that macOS and small systems lack. Source it. POSIX sh, with only the commands that POSIX requires.
# shellcheck shell=sh

# sha256: prints the SHA-256 of standard input in hexadecimal. GNU and busybox have sha256sum, macOS and BSD have shasum or sha256.
sha256() {
	if command -v sha256sum >/dev/null; then
		sha256sum | cut -d ' ' -f 1
	elif command -v shasum >/dev/null; then
		shasum -a 256 | cut -d ' ' -f 1
	elif command -v openssl >/dev/null; then
		openssl dgst -sha256 -r | cut -d ' ' -f 1
	else
		# Without the hash, the image's name would not change with its contents.
		echo "error: sha256sum, shasum and openssl are missing. Install one of them." >&2
		return 1
	fi
}

# at_least HAVE WANT: succeeds if version HAVE is at least WANT. Compares the numbers in them one by one.
at_least() {
	awk -v have="$1" -v want="$2" 'BEGIN {
		split(have, h, /[^0-9]+/)
		n = split(want, w, /[^0-9]+/)
		for (i = 1; i <= n; i++) if (h[i] + 0 != w[i] + 0) exit !(h[i] + 0 > w[i] + 0)
	}'
}

# detached COMMAND...: replaces the shell by a command that outlives this terminal. Call it in a background job: a shell that waited for
# the command would keep the caller's output and locks open, because dash keeps copies of redirected descriptors.
detached() {
	if command -v setsid >/dev/null; then exec setsid "$@"; else exec nohup "$@"; fi
}

# lock_9 [-n]: waits for the lock on file descriptor 9; with -n fails if another process holds it. The lock ends with the process that
# opened the descriptor. macOS has Perl but no flock. Without either, nothing is locked.
lock_9() {
	if command -v flock >/dev/null; then
		flock "$@" 9
	elif command -v perl >/dev/null; then
		# A lock of flock(2) belongs to the open file, which the shell keeps open after Perl exits. 2 is LOCK_EX, 4 is LOCK_NB.
		perl -e 'open(my $file, ">&=", 9) or die $!; exit(flock($file, @ARGV ? 2 | 4 : 2) ? 0 : 1)' -- "$@"
	fi
}

# system_name, machine_name: print the names of this machine's system and architecture in the spelling of Go and Pulumi.
system_name() { uname -s | tr '[:upper:]' '[:lower:]'; }
machine_name() {
	case $(uname -m) in
	x86_64 | amd64) echo amd64 ;;
	aarch64 | arm64) echo arm64 ;;
	*) uname -m ;;
	esac
}
