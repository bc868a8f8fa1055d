#!/bin/sh
# Assembles the image's root file system in /image: files at the same paths as in the official image, and pgBackRest and age for the tests.
set -eu
umask 022
mkdir -p /image
cd /image
mkdir -p bin sbin etc/ssl lib root usr/bin usr/sbin usr/lib usr/share usr/local/bin proc sys dev run tmp var/lib var/tmp var/log var/spool
ln -s /run var/run
chmod 1777 tmp var/tmp
chmod 700 root

cp /deps/busybox bin/
bin/busybox --list-full | while read -r applet; do
	mkdir -p "$(dirname "$applet")"
	ln -s /bin/busybox "$applet" 2>/dev/null || true
done
# Alpine's C library is also its loader.
cp -L /lib/ld-musl-x86_64.so.1 lib/
printf '/lib\n/usr/local/lib\n/usr/lib\n' >etc/ld-musl-x86_64.path
cp -a /installed/. .
cp -a /deps/lib/*.so* /icu/lib/*.so* usr/lib/
cp -a /deps/zstd usr/bin/
cp /bin/bash-static bin/bash
cp /usr/sbin/gosu usr/local/bin/
ln -s gosu usr/local/bin/su-exec
rm -rf usr/local/include usr/local/share/doc usr/local/share/man usr/local/lib/*.a usr/local/lib/pkgconfig usr/local/lib/postgresql/pgxs
find usr bin -type f \( -perm -100 -o -name '*.so*' \) ! -name gosu -exec strip --strip-unneeded {} + 2>/dev/null || true
cp -a /usr/share/zoneinfo usr/share/

# The tests decrypt copies with age, which apk installs on the official image. Debian's age needs Debian's C library.
cp /usr/bin/age usr/bin/
mkdir -p lib64
cp -L /lib64/ld-linux-x86-64.so.2 lib64/
mkdir -p lib/x86_64-linux-gnu
cp -L /lib/x86_64-linux-gnu/libc.so.6 lib/x86_64-linux-gnu/

printf 'ID=alpine\nVERSION_ID=0\nNAME="Alpine Linux (PostgreSQL on musl, from sources)"\n' >etc/os-release
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\npostgres:x:70:70:PostgreSQL user:/var/lib/postgresql:/bin/sh\n' >etc/passwd
printf 'root:x:0:root\ntty:x:5:\nnobody:x:65534:\npostgres:x:70:\n' >etc/group
printf 'root:*::0:::::\npostgres:!::0:::::\n' >etc/shadow
chmod 640 etc/shadow
mkdir -p var/lib/postgresql/data docker-entrypoint-initdb.d run/postgresql
chown -R 70:70 var/lib/postgresql run/postgresql
chmod 3777 run/postgresql
# The server listens on all addresses by default, as in the official image; otherwise no client outside of the container could connect.
sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" usr/local/share/postgresql/postgresql.conf.sample
