#!/bin/sh
# Unpacks an archive of Orthanc's binaries, whole or not at all, and makes it the current one. The one before stays, for what still runs.
# Usage: install_binaries.sh DIRECTORY RELEASE
set -eu
directory=$1
release=$2
cd "$directory"
if [ ! -e "$release" ]; then
    rm -rf "$release.new"
    mkdir "$release.new"
    tar -xf "$release.tar" -C "$release.new"
    sync -f "$release.new"
    mv "$release.new" "$release"
fi
# Where SELinux is: what systemd starts must bear the type of programs.
if command -v restorecon >/dev/null; then restorecon -R "$directory"; fi
former=$(readlink current || true)
ln -sfn "$release" current.new
mv -T current.new current
rm -f -- *.tar
for path in */; do
    case "${path%/}" in
    current | "$release" | "$former") ;;
    *) rm -rf "$path" ;;
    esac
done
