#!/bin/sh
# Serves a mirror of Orthanc's binaries on loopback, laid out as the project's server is, from those of Debian 12.
# Usage: serve_mirror.sh start DIRECTORY BINARIES | stop DIRECTORY
set -eu
verb=$1
directory=$2
mirror=$directory/mirror
mkdir -p "$directory"
if [ -s "$directory/mirror.pid" ]; then
    pid=$(cat "$directory/mirror.pid")
    # The number may be another process's by now.
    if grep -q http.server "/proc/$pid/cmdline" 2>/dev/null; then kill "$pid"; fi
    rm "$directory/mirror.pid"
fi
[ "$verb" = start ] || exit 0
binaries=$3
mkdir -p "$mirror/orthanc/1.10.1" "$mirror/orthanc-dicomweb/1.7" "$mirror/orthanc-postgresql/4.0"
cp "$binaries/Orthanc" "$mirror/orthanc/1.10.1/"
cp "$binaries/libOrthancDicomWeb.so" "$mirror/orthanc-dicomweb/1.7/"
cp "$binaries/libOrthancPostgreSQLIndex.so" "$binaries/libOrthancPostgreSQLStorage.so" "$mirror/orthanc-postgresql/4.0/"
setsid python3 -m http.server --bind 127.0.0.1 --directory "$mirror" 8911 >"$directory/mirror.log" 2>&1 </dev/null &
echo $! >"$directory/mirror.pid"
for _ in $(seq 120); do
    sleep 0.5
    # Another server at that port would answer, too.
    kill -0 "$(cat "$directory/mirror.pid")" 2>/dev/null || break
    python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8911/")' 2>/dev/null && exit 0
done
echo "the mirror doesn't answer: $(tail -n 1 "$directory/mirror.log")" >&2
exit 1
