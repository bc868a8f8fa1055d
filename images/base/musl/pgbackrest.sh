#!/bin/sh
# Builds pgBackRest against musl into /installed/usr/bin. On the official image apk installs it, from a registry that may be unreachable.
set -eu
# shellcheck source=lib.sh
. /musl/lib.sh
mkdir -p /build/programs /installed/usr/bin
# configure runs these two programs. /deps has no xml2-config for its library; its flags are given below.
cat >/build/programs/pg_config <<'SH'
#!/bin/sh
case $1 in --includedir) echo /installed/usr/local/include ;; --libdir) echo /installed/usr/local/lib ;; esac
SH
printf '#!/bin/sh\nexit 1\n' >/build/programs/xml2-config
chmod +x /build/programs/*
PATH="/build/programs:$PATH"
unpack pgbackrest
cd src
# The build runs a program that generates source files.
export LD_LIBRARY_PATH=/deps/lib:/installed/usr/local/lib
./configure CC=musl-gcc --prefix=/usr --build=x86_64-linux-gnu --host=x86_64-linux-musl \
	CPPFLAGS='-I/deps/include -I/deps/include/libxml2 -I/installed/usr/local/include' \
	LDFLAGS='-L/deps/lib -L/installed/usr/local/lib -Wl,-rpath-link,/deps/lib:/icu/lib'
make -j3 -s
cp pgbackrest /installed/usr/bin/
