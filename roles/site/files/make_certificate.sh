#!/bin/sh
# A self-signed certificate, which is also what its peers verify it by. One that is there stays as long as it has all the names.
# Usage: make_certificate.sh PATH NAME_OR_ADDRESS...
set -eu
umask 077
path=$1
shift

kind_of() {
    case $1 in
    *:*) echo IP ;;
    *[!0-9.]*) echo DNS ;;
    *) echo IP ;;
    esac
}

has() {
    option=-checkhost
    [ "$(kind_of "$1")" = DNS ] || option=-checkip
    openssl x509 -in "$path.crt" -noout "$option" "$1" | grep -q 'does match'
}

is_kept() {
    [ -s "$path.crt" ] && [ -s "$path.key" ] || return 1
    for name in "$@"; do
        has "$name" || return 1
    done
}

! is_kept "$@" || exit 0
names=
for name in "$@"; do
    names="$names${names:+,}$(kind_of "$name"):$name"
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 3650 -subj "/CN=$1" \
    -addext "subjectAltName=$names" -keyout "$path.key" -out "$path.crt.new" 2>/dev/null
mv "$path.crt.new" "$path.crt"
echo "made $path.crt"
