#!/bin/sh
# A bridge with the first address of a /24, and for hosts that may go out: forwarding and masquerading.
# The value that ip_forward had before is kept in LAB_DIR, for whoever removes the lab.
# Usage: make_network.sh BRIDGE NETWORK/24 internet|closed LAB_DIR
set -eu
bridge=$1
network=$2
way_out=$3
prefix=${network%.*}
table=$(echo "$bridge" | tr - _)

if ! ip link show "$bridge" >/dev/null 2>&1; then
    if ip -4 route show "$network" | grep -q .; then
        echo "$network is in use on this machine: set lab_host_network to a free /24" >&2
        exit 1
    fi
    # Without an address of its own the bridge takes that of its newest port, and its hosts' neighbours go stale.
    ip link add "$bridge" address 02:4d:57:00:00:01 type bridge
    echo changed
fi
ip address replace "$prefix.1/24" dev "$bridge"
ip link set "$bridge" up

if [ "$way_out" = internet ]; then
    if [ "$(cat /proc/sys/net/ipv4/ip_forward)" != 1 ]; then
        cat /proc/sys/net/ipv4/ip_forward >"$4/ip_forward.before"
        echo 1 >/proc/sys/net/ipv4/ip_forward
        echo changed
    fi
    if ! nft list table ip "$table" >/dev/null 2>&1; then
        nft -f - <<EOF
table ip $table {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr $network ip daddr != $network masquerade
    }
}
EOF
        echo changed
    fi
elif nft list table ip "$table" >/dev/null 2>&1; then
    nft delete table ip "$table"
    echo changed
fi
