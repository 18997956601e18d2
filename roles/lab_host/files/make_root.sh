#!/bin/sh
# Makes the root of a bare host as a tar file, whole or not at all: of a Debian or Ubuntu release, or of el9, a stand-in for RHEL 9 (see el9/).
# A Debian release with -packages behind it has the packages of a site already, and runs none of them but PostgreSQL.
# Usage: make_root.sh SUITE PACKAGE,PACKAGE,... TARGET.tar
set -eu
suite=$1
packages=$2
target=$3
here=$(cd "$(dirname "$0")" && pwd)
# Scenarios that run side by side may want the same one.
exec 9>"$target.lock"
flock --timeout 1200 9 || {
    echo "somebody else has been making $target for 20 minutes" >&2
    exit 1
}
# One that was made in another way is made anew.
describe() {
    echo "$suite $packages"
    cat "$here"/*.sh "$here"/python/kept_byte_code.*
    [ "$suite" != el9 ] || cat "$here"/el9/*
}
recipe=$(describe | sha256sum | cut -d ' ' -f 1)
[ ! -e "$target" ] || [ "$(cat "$target.recipe" 2>/dev/null)" != "$recipe" ] || exit 0
# What one that was killed has left. Its mounts were in a namespace of its own, and went with it.
rm -rf --one-file-system "$target".work "$target".partial
mkdir "$target.work"
trap 'rm -rf --one-file-system "$target.work" "$target.partial"' EXIT
export TMPDIR="$target.work"
bootstrap() {
    unshare --mount --propagation private mmdebstrap --variant=minbase --format=tar "$@" 9>&-
}
prepare="'$here/prepare_root.sh' \"\$1\""

case $suite in
el9)
    # What RHEL's installer puts onto a host beyond a Debian one, by Debian's names.
    packages=$packages,chrony,cpio,createrepo-c,dnf,firewalld,netbase,nftables,openssl,perl,policycoreutils,policycoreutils-python-utils
    packages=$packages,python3-dnf,python3-venv,rpm,selinux-policy-default
    bootstrap --include="$packages" \
        --customize-hook="$here/el9/make_packages.sh \"\$1\"" --customize-hook="$here/el9/disguise.sh \"\$1\"" \
        --customize-hook="$prepare" bookworm "$target.partial"
    ;;
jammy | noble | resolute)
    # Its packages are signed by a keyring of Ubuntu's, which an Ubuntu machine has.
    bootstrap --include="$packages" --components=main,universe \
        --customize-hook="$prepare" "$suite" "$target.partial" http://archive.ubuntu.com/ubuntu
    ;;
*-packages)
    packages=$packages,haproxy,libnginx-mod-http-perl,nftables,nginx-light,openssl,orthanc,orthanc-dicomweb,orthanc-postgresql
    packages=$packages,postgresql,python3-psycopg2,systemd-timesyncd
    bootstrap --include="$packages" --customize-hook="$prepare" \
        --customize-hook='systemctl --root="$1" disable --quiet haproxy nginx orthanc' "${suite%-packages}" "$target.partial"
    ;;
*)
    bootstrap --include="$packages" --customize-hook="$prepare" "$suite" "$target.partial"
    ;;
esac
mv "$target.partial" "$target"
echo "$recipe" >"$target.recipe"
echo "made $target"
