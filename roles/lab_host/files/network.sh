#!/bin/sh
# A bridge with the first address of a /24, and for hosts that may go out: forwarding and masquerading. Several labs may come and go at once.
# The value that ip_forward had before the first of them is given back by the last.
# Usage: network.sh up BRIDGE NETWORK/24 internet|closed | network.sh down BRIDGE
set -eu
verb=$1
bridge=$2
table=$(echo "$bridge" | tr - _)
state=/run/dicomweb-lab
forwarding=/proc/sys/net/ipv4/ip_forward
mkdir -p "$state/ways_out"
exec 9>"$state/lock"
flock --timeout 60 9 || {
    echo "somebody else holds $state/lock" >&2
    exit 1
}

close() {
    if nft list table ip "$table" >/dev/null 2>&1; then
        nft delete table ip "$table"
        echo changed
    fi
    rm -f "$state/ways_out/$bridge"
    if [ -s "$state/ip_forward" ] && [ -z "$(ls "$state/ways_out")" ]; then
        cat "$state/ip_forward" >$forwarding
        rm "$state/ip_forward"
    fi
}

if [ "$verb" = down ]; then
    close
    ip link delete "$bridge" 2>/dev/null || true
    exit 0
fi

network=$3
way_out=$4
prefix=${network%.*}
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
# 10.77.3.1 is fd00:77:3::1, too.
ip address replace "$(echo "$prefix" | awk -F. '{ print "fd00:" $2 ":" $3 "::1" }')/64" dev "$bridge" nodad
ip link set "$bridge" up

if [ "$way_out" = closed ]; then
    close
    exit 0
fi
: >"$state/ways_out/$bridge"
if [ "$(cat $forwarding)" != 1 ]; then
    [ -s "$state/ip_forward" ] || cat $forwarding >"$state/ip_forward"
    echo 1 >$forwarding
    echo changed
fi
if ! nft list table ip "$table" >/dev/null 2>&1; then
    nft -f - <<TABLE
table ip $table {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr $network ip daddr != $network masquerade
    }
}
TABLE
    echo changed
fi
