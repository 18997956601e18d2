#!/bin/sh
# Usage: make_self_signed.sh CERTIFICATE KEY COMMON_NAME SUBJECT_ALTERNATIVE_NAMES
set -eu
umask 077
mkdir -p "$(dirname "$1")"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 825 -subj "/CN=$3" \
    -addext "subjectAltName=$4" -keyout "$2" -out "$1.new" 2>/dev/null
mv "$1.new" "$1"
