#!/bin/sh
# A self-signed certificate, which is also what its peers verify it by.
# Usage: make_certificate.sh PATH NAME_OR_ADDRESS...
set -eu
umask 077
path=$1
shift
names=
for name in "$@"; do
    case $name in
    *[!0-9.]*) [ "${name#*:}" = "$name" ] && kind=DNS || kind=IP ;;
    *) kind=IP ;;
    esac
    names="$names${names:+,}$kind:$name"
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 3650 -subj "/CN=$1" \
    -addext "subjectAltName=$names" -keyout "$path.key" -out "$path.crt.new" 2>/dev/null
mv "$path.crt.new" "$path.crt"
