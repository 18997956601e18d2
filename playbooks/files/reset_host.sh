#!/bin/sh
# Stops the units and removes what the roles brought: packages with their data, files, users' data. What stays is said.
# Usage: reset_host.sh UNIT... -- PATH...
set -eu
units=
while [ "$1" != -- ]; do
    units="$units $1"
    shift
done
shift
for unit in $units; do
    systemctl disable --now "$unit" 2>/dev/null || true
done
systemctl unmask orthanc.service 2>/dev/null || true
# Only what is installed: purging asks for nothing else.
purge_by_apt() {
    installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' 'postgresql*' 'orthanc*' 'nginx*' 'libnginx-mod*' haproxy \
        2>/dev/null | sed -n 's/ installed$//p; s/ config-files$//p')
    [ -n "$installed" ] || return 0
    echo postgresql-common postgresql-common/purge-data boolean true | debconf-set-selections 2>/dev/null || true
    # shellcheck disable=SC2086 # one word a package
    DEBIAN_FRONTEND=noninteractive apt-get purge --yes --quiet --quiet $installed >/dev/null
}

remove_by_dnf() {
    installed=$(rpm --query --all --queryformat '%{NAME}\n' 'postgresql*' 'nginx*' haproxy)
    # shellcheck disable=SC2086 # one word a package
    [ -z "$installed" ] || dnf remove --assumeyes --quiet $installed >/dev/null
}

# The host's own firewall goes on, with SSH and without what the site had let in.
close_firewalld() {
    [ "$(firewall-cmd --get-default-zone 2>/dev/null)" = dicomweb ] || return 0
    firewall-cmd --quiet --set-default-zone=public
    rm -rf /etc/firewalld/zones/dicomweb.xml* /etc/firewalld/services/dicomweb-*.xml*
    firewall-cmd --quiet --reload
}

close_ufw() {
    ufw show added 2>/dev/null | sed -n "/comment 'dicomweb: SSH'/d; s/^ufw \(.*\) comment 'dicomweb: .*/\1/p" | while read -r rule; do
        # shellcheck disable=SC2086 # a rule is many words
        ufw delete $rule >/dev/null
    done
}

if command -v dnf >/dev/null; then remove_by_dnf; else purge_by_apt; fi
close_firewalld
close_ufw
rm -rf /etc/postgresql-common/createcluster.d/dicomweb.conf /etc/orthanc /etc/haproxy /etc/nginx /etc/postgresql /var/lib/orthanc /var/lib/postgresql /var/lib/pgsql /var/lib/nginx \
    /opt/dicomweb-site /etc/pyupsrs /etc/systemd/system/pyupsrs.service /etc/systemd/system/pyupsrs.socket \
    /etc/pipeline-forwarder /etc/pipeline-monitor /etc/systemd/system/pipeline-forwarder.service \
    /etc/systemd/system/pipeline-monitor.service /usr/local/bin/pipeline-monitor /usr/local/bin/dicom-send \
    /var/lib/pipeline-monitor /var/lib/pipeline-forwarder /var/lib/private/pipeline-forwarder \
    /etc/dicomweb-proxy /etc/systemd/system/dicomweb-proxy.service /var/lib/dicomweb-proxy \
    /etc/static-dicomweb /etc/static-dicomweb-scp /etc/static-dicomweb-sync /etc/static-dicomweb-feed \
    /etc/systemd/system/static-dicomweb.service /etc/systemd/system/static-dicomweb-scp.service \
    /etc/systemd/system/static-dicomweb-sync.service /etc/systemd/system/static-dicomweb-feed.service \
    /usr/local/bin/mkdicomweb /var/lib/static-dicomweb-feed /var/lib/private/static-dicomweb-feed \
    /etc/systemd/system/orthanc@.service /etc/systemd/system/nginx.service.d /etc/systemd/system/haproxy.service.d /etc/systemd/system/postgresql@.service.d \
    /etc/systemd/system/postgresql.service.d \
    /etc/dicomweb-firewall.nft /etc/systemd/system/dicomweb-firewall.service \
    /var/lib/dicomweb-bundle /var/lib/dicomweb-bundle-lists /etc/apt/dicomweb-bundle.list /etc/apt/dicomweb-bundle.conf \
    /etc/yum.repos.d/dicomweb-bundle.repo \
    /usr/local/sbin/dicomweb-quickack /etc/systemd/system/dicomweb-quickack.service \
    /usr/local/sbin/dicomweb-free-space /etc/systemd/system/dicomweb-free-space.service /var/lib/dicomweb-free-space "$@"
systemctl daemon-reload
echo "removed:$units"
