#!/bin/sh
# Unpacks a bundle's repository on a host, whole or not at all, and makes it the current one; the ones before go.
# Usage: install_repository.sh DIRECTORY RELEASE
set -eu
directory=$1
release=$2
cd "$directory"
if [ ! -e "$release" ]; then
    rm -rf "$release.new"
    mkdir "$release.new"
    tar -xf "$release.tar" -C "$release.new" --no-same-owner
    chmod -R u=rwX,go=rX "$release.new"
    sync -f "$release.new"
    mv "$release.new" "$release"
fi
ln -sfn "$release" current.new
mv -T current.new current
rm -f -- *.tar
for path in */; do
    case "${path%/}" in
    current | lists | "$release") ;;
    *) rm -rf "$path" ;;
    esac
done
