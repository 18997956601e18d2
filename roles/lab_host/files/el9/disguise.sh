#!/bin/sh
# Makes a Debian root look like RHEL 9 to whoever asks: its release, its package manager with its repository, its Python.
# Usage: disguise.sh ROOT
set -eu
root=$1
work=$root/root/packages

echo 'Red Hat Enterprise Linux release 9.6 (stand-in)' >"$root/etc/redhat-release"
rm -f "$root/etc/os-release" "$root/usr/lib/os-release" "$root/etc/debian_version"
cat >"$root/usr/lib/os-release" <<EOF
NAME="Red Hat Enterprise Linux"
VERSION="9.6 (stand-in on Debian 12)"
ID="rhel"
ID_LIKE="fedora"
VERSION_ID="9.6"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Red Hat Enterprise Linux 9.6 (stand-in on Debian 12)"
EOF
ln -s ../usr/lib/os-release "$root/etc/os-release"
mkdir -p "$root/etc/pki/tls/certs"
ln -s /etc/ssl/certs/ca-certificates.crt "$root/etc/pki/tls/certs/ca-bundle.crt"

mkdir -p "$root/etc/rpm" "$root/var/lib/rpm"
echo '%_dbpath /var/lib/rpm' >"$root/etc/rpm/macros"
mkdir -p "$root/etc/yum.repos.d"
printf '[el9]\nname=Stand-in for RHEL 9\nbaseurl=file:///srv/el9\ngpgcheck=0\nmetadata_expire=0\n' >"$root/etc/yum.repos.d/el9.repo"
chroot "$root" sh -c 'cd /srv/el9 && rpm --install redhat-release-* bash-* iproute-* openssl-* chrony-* firewalld-* nftables-* policycoreutils-python-utils-* \
    python3-9* sudo-* tar-*'

# Debian's dnf and firewalld are for Python 3.11, which Ansible finds for dnf where RHEL 8 and 9 have theirs.
mv "$root/usr/bin/python3.11" "$root/usr/libexec/platform-python3.11"
ln -s platform-python3.11 "$root/usr/libexec/platform-python"
grep -rlE '^#! ?/usr/bin/python3( |$)' "$root/usr/bin" "$root/usr/sbin" | while read -r script; do
    sed -i '1s|^#! */usr/bin/python3|#!/usr/libexec/platform-python|' "$script"
done
for deb in python3.9-minimal libpython3.9-minimal libpython3.9-stdlib libssl1.1 libffi7; do
    dpkg-deb --fsys-tarfile "$work/debs/${deb}"_*.deb | tar -x -C "$root" --keep-directory-symlink
done
ln -sf python3.9 "$root/usr/bin/python3"
chroot "$root" ldconfig

# Nothing may be installed by another way than dnf.
rm -rf "$root"/usr/bin/apt "$root"/usr/bin/apt-* "$root"/usr/bin/dpkg* "$root"/var/lib/dpkg "$work"
chroot "$root" python3 -c 'import ctypes, json, sqlite3, ssl, zlib'
