#!/bin/sh
# Builds PostgreSQL against musl into /installed, in /usr/local as in the official Alpine image, without readline and JIT compilation.
# ICU's libraries come from the Maven artifact, because Debian does not package a C++ compiler for musl.
set -eu
# shellcheck source=lib.sh
. /musl/lib.sh
mkdir -p /icu/lib /icu/include /build/artifact
unzip -q -o /src/*.jar -d /build/artifact
tar -xf /build/artifact/*.txz -C /build/artifact
cp -a /build/artifact/lib/libicu* /build/artifact/lib/libstdc++* /build/artifact/lib/libgcc_s* /build/artifact/lib/libuuid* /icu/lib/
# ICU adds its version to each function's name. The headers are Debian's, of a later version; PostgreSQL uses only what both have.
cp -r /usr/include/unicode /icu/include/
icu=$(find /icu/lib -name 'libicuuc.so.*' | sed -n 's/.*\.so\.\([0-9]*\)$/\1/p')
sed -i "s/^\(#define U_ICU_VERSION_SUFFIX\) .*/\1 _$icu/; s/^\(#define U_ICU_VERSION_MAJOR_NUM\) .*/\1 $icu/" /icu/include/unicode/uvernum.h

unpack postgresql-15
# The same socket directory as in Debian's and Alpine's packages.
sed -i 's|^\(#define DEFAULT_PGSOCKET_DIR *\)"/tmp"|\1"/var/run/postgresql"|' src/include/pg_config_manual.h
# Leaves out ecpg: no program here embeds SQL in C, and its parser takes long to compile.
sed -i 's/^SUBDIRS = libpq ecpg/SUBDIRS = libpq/' src/interfaces/Makefile
./configure CC=musl-gcc CFLAGS=-O2 --build=x86_64-linux-gnu --host=x86_64-linux-musl --prefix=/usr/local --disable-rpath --without-readline \
	--with-system-tzdata=/usr/share/zoneinfo --with-includes=/deps/include:/deps/include/libxml2:/icu/include --with-libraries=/deps/lib:/icu/lib \
	--with-icu ICU_CFLAGS=-I/icu/include ICU_LIBS='-licui18n -licuuc -licudata' \
	--with-lz4 LZ4_CFLAGS=-I/deps/include LZ4_LIBS=-llz4 --with-zstd ZSTD_CFLAGS=-I/deps/include ZSTD_LIBS=-lzstd \
	--with-openssl --with-libxml XML2_CONFIG=no XML2_CFLAGS=-I/deps/include/libxml2 XML2_LIBS="-lxml2 -lm" \
	LDFLAGS='-Wl,-rpath-link,/deps/lib:/icu/lib' ac_cv_file__dev_urandom=yes
make -j3 -s all
make -s install DESTDIR=/installed
for contrib in contrib/*/; do
	case $contrib in
	# These need Perl, Python, SELinux or a uuid library, which are not built for musl here.
	*plperl* | *plpython* | *sepgsql* | *uuid-ossp* | *start-scripts*) continue ;;
	esac
	[ -e "$contrib/Makefile" ] || continue
	make -j3 -s -C "$contrib" all
	make -s -C "$contrib" install DESTDIR=/installed
done
# The artifact's uuid-ossp is built for the same major version and so has the same interface (PG_MODULE_MAGIC).
cp /build/artifact/lib/postgresql/uuid-ossp.so /installed/usr/local/lib/postgresql/
cp /build/artifact/share/postgresql/extension/uuid-ossp* /installed/usr/local/share/postgresql/extension/
