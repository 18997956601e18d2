#!/bin/sh
# One line for every unit, package and file system of interest.
# Usage: show_host.sh UNIT... -- PACKAGE...
units=
while [ "$1" != -- ]; do
    units="$units $1"
    shift
done
shift
for unit in $units; do
    printf '%-12s %-32s %s since %s\n' service "$unit" "$(systemctl is-active "$unit")" \
        "$(systemctl show --property=ActiveEnterTimestamp --value "$unit")"
done
for package in "$@"; do
    if command -v dpkg-query >/dev/null; then
        version=$(dpkg-query --show --showformat='${Version}' "$package" 2>/dev/null) || continue
    else
        version=$(rpm --query --queryformat '%{VERSION}-%{RELEASE}' "$package" 2>/dev/null) || continue
    fi
    [ -n "$version" ] || continue
    printf '%-12s %-32s %s\n' version "$package" "$version"
done
df --human-readable --output=target,pcent,avail /var/lib /var/log | sed 1d | sort -u | while read -r place used free; do
    printf '%-12s %-32s %s used, %s free\n' disk "$place" "$used" "$free"
done
told=/var/lib/dicomweb-free-space/too-little
if [ -e "$told" ]; then
    printf '%-12s stores are refused: %s\n' space "$(paste --serial --delimiters=, "$told")"
else
    printf '%-12s stores are taken\n' space
fi
