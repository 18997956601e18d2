#!/bin/sh
# Makes a virtual environment from an archive of packages, whole or not at all, and makes it the current one. The one before stays, for
# what still runs in it; older ones go.
# Usage: install_venv.sh DIRECTORY RELEASE PYTHON
set -eu
directory=$1
release=$2
python=$3
cd "$directory"
if [ ! -e "$release/complete" ]; then
    rm -rf "$release"
    "$python" -m venv --without-pip "$release/venv"
    tar -xf "$release.tgz" -C "$release"
    packages=$("$release/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    rmdir "$packages"
    mv "$release/site-packages" "$packages"
    for script in "$release"/bin/*; do
        sed "1s|^#!.*|#!$directory/$release/venv/bin/python|" "$script" >"$release/venv/bin/${script##*/}"
        chmod 0755 "$release/venv/bin/${script##*/}"
    done
    rm -rf "$release/bin"
    "$release/venv/bin/python" -m compileall -q -j 0 "$packages"
    sync -f "$release"
    touch "$release/complete"
fi
# Where SELinux is: what systemd starts must bear the type of programs.
if command -v restorecon >/dev/null; then restorecon -R "$directory"; fi
former=$(readlink current || true)
ln -sfn "$release" current.new
mv -T current.new current
rm -f -- *.tgz
for path in */; do
    case "${path%/}" in
    current | "$release" | "$former") ;;
    *) rm -rf "$path" ;;
    esac
done
