#!/bin/sh
# A bridge with the first address of a /24, and for hosts that may go out: forwarding and masquerading.
# Usage: make_network.sh BRIDGE NETWORK/24 internet|closed
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
    ip link add "$bridge" type bridge
    echo changed
fi
ip address replace "$prefix.1/24" dev "$bridge"
ip link set "$bridge" up

if [ "$way_out" = internet ]; then
    [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || { echo 1 >/proc/sys/net/ipv4/ip_forward; echo changed; }
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
