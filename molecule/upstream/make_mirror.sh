#!/bin/sh
# Makes /srv/mirror/debian on a host: a signed repository with Debian's Orthanc packages under a higher version.
# Usage: make_mirror.sh CODENAME
set -eu
export DEBIAN_FRONTEND=noninteractive GNUPGHOME=/root/mirror-keys
apt-get update -q
apt-get install -q -y --no-install-recommends apt-utils dpkg-dev gnupg
mkdir -p /srv/mirror/debian/pool /root/debs
mkdir -p -m 0700 "$GNUPGHOME"
cd /root/debs
apt-get download orthanc orthanc-dicomweb orthanc-postgresql
for deb in *.deb; do
    dpkg-deb --raw-extract "$deb" unpacked
    sed -i 's/^Version: .*/&+mirror1/' unpacked/DEBIAN/control
    dpkg-deb --build unpacked /srv/mirror/debian/pool >/dev/null
    rm -rf unpacked
done
cd /srv/mirror/debian
binary=dists/$1/main/binary-$(dpkg --print-architecture)
mkdir -p "$binary"
dpkg-scanpackages --multiversion pool 2>/dev/null >"$binary/Packages"
apt-ftparchive -o "APT::FTPArchive::Release::Codename=$1" -o APT::FTPArchive::Release::Components=main \
    release "dists/$1" >Release
mv Release "dists/$1/Release"
[ -s archive.key ] || gpg --batch --quiet --passphrase '' --quick-generate-key 'Mirror of the tests' ed25519 sign never
gpg --batch --armor --export >archive.key
gpg --batch --yes --clearsign --output "dists/$1/InRelease" "dists/$1/Release"
systemctl is-active --quiet mirror || systemd-run --unit=mirror python3 -m http.server --bind 127.0.0.1 --directory /srv/mirror 8900
