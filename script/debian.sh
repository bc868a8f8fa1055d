# Makes a root file system from Debian's packages, with security updates; to be sourced, after portable.sh. POSIX sh. Needs root and debootstrap,
# debian_release only curl or wget, and xz.
# shellcheck shell=sh

: "${DEBIAN_MIRROR:=http://deb.debian.org/debian}"
: "${DEBIAN_SECURITY_MIRROR:=http://deb.debian.org/debian-security}"

# debian_sources SUITE: prints the repositories as sources.list has them. A release gets its fixes from the last two.
debian_sources() {
	cat <<-LIST
		deb $DEBIAN_MIRROR $1 main
		deb $DEBIAN_MIRROR $1-updates main
		deb $DEBIAN_SECURITY_MIRROR $1-security main
	LIST
}

# fetch URL: prints what is there.
fetch() {
	if command -v curl >/dev/null; then
		curl -fsSL --connect-timeout 8 --max-time 120 "$1"
	else
		wget -q -T 8 -t 1 -O - "$1"
	fi
}

# debian_release SUITE PACKAGE [main]: prints the newest version of a package in the suite's repositories, or in the first of them. Fails
# when one of them cannot be read. The lists are read without their signatures: this only decides whether to build, and apt checks what it
# installs.
debian_release() {
	debian_newest=
	debian_lists=$(debian_sources "$1" | sed "${3:+1q}" | awk -v machine="$(machine_name)" '{ print $2 "/dists/" $3 "/" $4 "/binary-" machine "/Packages.xz" }')
	for debian_list in $debian_lists; do
		debian_text=$(mktemp)
		if ! { fetch "$debian_list" >"$debian_text" && xz -t "$debian_text"; } 2>/dev/null; then
			rm -f "$debian_text"
			return 1
		fi
		for debian_found in $(xz -dc <"$debian_text" | awk -v package="$2" '$1 == "Package:" { p = $2 } $1 == "Version:" && p == package { print $2 }'); do
			if [ -z "$debian_newest" ] || at_least "$debian_found" "$debian_newest"; then debian_newest=$debian_found; fi
		done
		rm -f "$debian_text"
	done
	[ -n "$debian_newest" ] && echo "$debian_newest"
}

# debian_tag VERSION: a version as the tag of an image can have it.
debian_tag() { printf '%s' "$1" | tr -c 'A-Za-z0-9_.-' '.'; }

# debian_root SUITE FOLDER: fills an empty folder with a minimal system, its packages in their newest versions.
debian_root() {
	debootstrap --variant=minbase "$1" "$2" "$DEBIAN_MIRROR"
	debian_sources "$1" >"$2/etc/apt/sources.list"
	debian_apt "$2" update
	debian_apt "$2" dist-upgrade
}

# debian_install FOLDER PACKAGE...: installs packages in a system that debian_root made, and takes away what only costs space.
debian_install() {
	debian_folder=$1
	shift
	# A package's server must not be started here (Debian's invoke-rc.d asks this file).
	printf '#!/bin/sh\nexit 101\n' >"$debian_folder/usr/sbin/policy-rc.d"
	chmod +x "$debian_folder/usr/sbin/policy-rc.d"
	debian_apt "$debian_folder" install --no-install-recommends "$@"
	rm -rf "$debian_folder/usr/sbin/policy-rc.d" "$debian_folder"/var/cache/apt/* "$debian_folder"/var/lib/apt/lists/* \
		"$debian_folder"/usr/share/doc/* "$debian_folder"/usr/share/man/* "$debian_folder"/usr/share/locale/*
}

# debian_archives FOLDER SUITE PACKAGE...: downloads source packages into the folder's /src, as they are in the suite's main repository. For
# what only tests run on: what is there changes with a point release, not with each security update.
debian_archives() {
	debian_folder=$1
	echo "deb-src $DEBIAN_MIRROR $2 main" >"$debian_folder/etc/apt/sources.list.d/sources.list"
	shift 2
	debian_apt "$debian_folder" update
	mkdir -p "$debian_folder/src"
	DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$debian_folder" \
		sh -euc 'cd /src && apt-get -y -qq -o APT::Sandbox::User=root source --download-only "$@"' sh "$@"
	rm -rf "$debian_folder"/var/cache/apt/* "$debian_folder"/var/lib/apt/lists/*
}

# debian_apt FOLDER ARGUMENT...: runs apt-get in the folder's system, without questions.
debian_apt() {
	debian_at=$1
	shift
	DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$debian_at" apt-get -y -qq "$@"
}
