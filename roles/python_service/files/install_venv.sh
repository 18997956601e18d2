#!/bin/sh
# Makes a virtual environment from an archive of wheels, whole or not at all, and makes it the current one. The one before stays, for
# what still runs in it; older ones go.
# Usage: install_venv.sh DIRECTORY RELEASE
set -eu
directory=$1
release=$2
cd "$directory"
if [ ! -e "$release/complete" ]; then
    rm -rf "$release"
    mkdir -p "$release/wheels"
    tar -xf "$release.tar" -C "$release/wheels"
    python3 -m venv "$release/venv"
    "$release/venv/bin/pip" install --quiet --disable-pip-version-check --no-index --no-deps "$release"/wheels/*.whl
    rm -rf "$release/wheels"
    sync -f "$release"
    touch "$release/complete"
fi
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
