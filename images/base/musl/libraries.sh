#!/bin/sh
# Builds PostgreSQL's and pgBackRest's libraries against musl, into /deps. Runs in the image with the compiler and the sources (../build).
set -eu
# shellcheck source=lib.sh
. /musl/lib.sh
mkdir -p /deps/lib /deps/include
export CC=musl-gcc CFLAGS="-O2 -fPIC"
# OpenSSL and busybox include kernel headers, which do not belong to a C library.
for headers in linux asm-generic mtd; do ln -sfn "/usr/include/$headers" "/usr/include/x86_64-linux-musl/$headers"; done
ln -sfn /usr/include/x86_64-linux-gnu/asm /usr/include/x86_64-linux-musl/asm

(
	unpack zlib
	./configure --prefix=/deps
	make -j3 libz.a
	cp libz.a /deps/lib/
	cp zlib.h zconf.h /deps/include/
)
(
	unpack lz4
	make -j3 -C lib liblz4.a CFLAGS="$CFLAGS"
	cp lib/liblz4.a /deps/lib/
	cp lib/lz4*.h /deps/include/
)
(
	unpack libzstd
	make -j3 -C lib libzstd.a ZSTD_LEGACY_SUPPORT=0 CFLAGS="$CFLAGS"
	cp lib/libzstd.a /deps/lib/
	cp lib/zstd*.h lib/zdict.h /deps/include/
	# The official image has this program too.
	make -j3 -C programs zstd ZSTD_LEGACY_SUPPORT=0 HAVE_ZLIB=0 HAVE_LZMA=0 HAVE_LZ4=0
	cp programs/zstd /deps/
)
(
	unpack bzip2
	make -j3 libbz2.a CC="$CC" CFLAGS="$CFLAGS"
	cp libbz2.a /deps/lib/
	cp bzlib.h /deps/include/
)
(
	# Its configure script needs the Autotools, so its nine files are compiled directly.
	unpack libyaml
	for file in src/*.c; do
		# shellcheck disable=SC2086  # several flags
		"$CC" $CFLAGS -Iinclude -DYAML_VERSION_MAJOR=0 -DYAML_VERSION_MINOR=2 -DYAML_VERSION_PATCH=5 '-DYAML_VERSION_STRING="0.2.5"' -c "$file" -o "$file.o"
	done
	ar rcs /deps/lib/libyaml.a src/*.c.o
	cp include/yaml.h /deps/include/
)
(
	unpack libxml2
	./configure --prefix=/deps --without-python --without-lzma --without-icu --without-zlib --disable-shared --enable-static --with-pic
	make -j3 libxml2.la
	make install-libLTLIBRARIES
	mkdir -p /deps/include/libxml2
	cp -r include/libxml /deps/include/libxml2/
)
(
	# Builds only the shared libraries: static ones would compile every file twice.
	unpack openssl
	./Configure linux-x86_64 --prefix=/usr --libdir=lib --openssldir=/etc/ssl shared \
		no-tests no-legacy no-engine no-afalgeng no-dso no-idea no-seed no-camellia no-aria no-sm2 no-sm3 no-sm4 no-rc2 no-cms no-ts no-srp no-cmp
	make build_generated
	make -j3 libcrypto.so libssl.so
	cp -a libcrypto.so* libssl.so* /deps/lib/
	cp -r include/openssl /deps/include/
)
(
	# Alpine's shell and tools: busybox with its default configuration.
	unpack busybox
	make defconfig
	sed -i 's/^# CONFIG_STATIC is not set/CONFIG_STATIC=y/' .config
	make -j3 CC="$CC" busybox
	cp busybox /deps/
)
