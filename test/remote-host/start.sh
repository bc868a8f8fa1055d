#!/bin/sh
# Runs sshd and Docker's engine. AUTHORIZED_KEY is the public key that may log in as root. Address ranges are given, so that the
# networks of this engine never meet those of the machine that runs this container.
set -eu
# The engine makes a control group for each of its containers, below this container's own. With version 1 each controller is a mount.
for controllers in /sys/fs/cgroup /sys/fs/cgroup/*/; do
	if mountpoint -q "$controllers"; then mount -o remount,bind,rw "$controllers"; fi
done
# With version 2 a group that has processes cannot have groups that are limited (kernel: cgroup-v2.rst, no internal processes).
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	mkdir -p /sys/fs/cgroup/init
	while read -r process; do echo "$process" >/sys/fs/cgroup/init/cgroup.procs || true; done </sys/fs/cgroup/cgroup.procs
	sed -e 's/ / +/g' -e 's/^/+/' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi
umask 077
mkdir -p /root/.ssh
printf '%s\n' "$AUTHORIZED_KEY" >/root/.ssh/authorized_keys
ssh-keygen -A
"$(command -v sshd)" -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no -o AllowTcpForwarding=yes -o MaxStartups=100
umask 022
exec dockerd --bip 10.201.0.1/24 --default-address-pool base=10.202.0.0/16,size=24
