#!/bin/sh
# Starts a server with TLS: the entry point of its container, which Docker uploads with the certificate.
#
# Docker uploads files as root's, and PostgreSQL refuses a key that is not the server's user's or root's, or that others can read. So the
# certificate is copied. It is uploaded once, when the container is created, because another upload would replace the container. Renewals
# arrive in the copy's place (components/server/server-certificate.ts), so an existing copy is newer and stays.
set -eu

uploaded=/run/server-certificate.pem
authority=/run/authority.crt
folder=/etc/sectorwars-tls

copy_certificate() (
	umask 077
	cp "$authority" "$folder/ca.crt"
	chmod 0644 "$folder/ca.crt"
	cp "$uploaded" "$folder/.server.pem"
	chown postgres:postgres "$folder/.server.pem"
	chmod 0600 "$folder/.server.pem"
	# ln, because a renewal may arrive at the same time, and must not be overwritten.
	ln "$folder/.server.pem" "$folder/server.pem" 2>/dev/null || [ -e "$folder/server.pem" ]
	rm -f "$folder/.server.pem"
)

mkdir -p "$folder"
chmod 0755 "$folder"
if [ ! -e "$folder/server.pem" ]; then copy_certificate; fi
exec sectorwars-start "$@"
