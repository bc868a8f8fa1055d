# shellcheck shell=sh
# Shared by the scripts of this folder; to be sourced.

# unpack SOURCE: unpacks the archive of a Debian source package, without Debian's changes, and goes into its folder.
unpack() {
	archive=$(find /src -name "$1_*.orig.tar.*" ! -name '*.asc')
	mkdir -p "/build/$1"
	tar -xf "$archive" -C "/build/$1" --strip-components=1
	cd "/build/$1" || exit
}
