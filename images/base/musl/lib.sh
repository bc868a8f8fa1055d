# shellcheck shell=sh
# Functions for the scripts in this folder. Source this file.

# unpack SOURCE: unpacks the upstream archive of a Debian source package, without Debian's patches, and changes into its folder.
unpack() {
	archive=$(find /src -name "$1_*.orig.tar.*" ! -name '*.asc')
	mkdir -p "/build/$1"
	tar -xf "$archive" -C "/build/$1" --strip-components=1
	cd "/build/$1" || exit
}
