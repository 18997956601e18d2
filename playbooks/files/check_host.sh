#!/bin/sh
# One line for every unit and file system: what, ok or FAILED, what was seen.
# Usage: check_host.sh DISK_PERCENT UNIT...
limit=$1
shift
for unit in "$@"; do
    state=$(systemctl is-active "$unit")
    restarts=$(systemctl show --property=NRestarts --value "$unit")
    if [ "$state" = active ]; then
        printf '%-14s ok      %s, restarted by itself %s times\n' service "$unit" "${restarts:-0}"
    else
        printf '%-14s FAILED  %s is %s: journalctl -u %s\n' service "$unit" "$state" "$unit"
    fi
done
told=/var/lib/dicomweb-free-space/too-little
if [ -e "$told" ]; then
    printf '%-14s FAILED  stores are refused: %s (host_free_megabytes)\n' space "$(paste --serial --delimiters=, "$told")"
else
    printf '%-14s ok      stores are taken\n' space
fi
df --output=pcent,target /var/lib /var/log | sed 1d | sort -u | while read -r used place; do
    if [ "${used%\%}" -lt "$limit" ]; then verdict='ok     '; else verdict='FAILED '; fi
    printf '%-14s %s %s of %s is used (limit %s%%)\n' disk "$verdict" "$used" "$place" "$limit"
done
