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
installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' 'postgresql*' 'orthanc*' 'nginx*' 'libnginx-mod*' \
    2>/dev/null | sed -n 's/ installed$//p; s/ config-files$//p')
if [ -n "$installed" ]; then
    echo postgresql-common postgresql-common/purge-data boolean true | debconf-set-selections 2>/dev/null || true
    # shellcheck disable=SC2086 # one word a package
    DEBIAN_FRONTEND=noninteractive apt-get purge --yes --quiet --quiet $installed >/dev/null
fi
rm -rf /etc/orthanc /etc/nginx /etc/postgresql /var/lib/orthanc /var/lib/postgresql /var/lib/nginx \
    /opt/dicomweb-site /etc/pyupsrs /etc/systemd/system/pyupsrs.service /etc/systemd/system/pyupsrs.socket \
    /etc/pipeline-forwarder /etc/pipeline-monitor /etc/systemd/system/pipeline-forwarder.service \
    /etc/systemd/system/pipeline-monitor.service /usr/local/bin/pipeline-monitor /usr/local/bin/dicom-send \
    /var/lib/pipeline-monitor /var/lib/pipeline-forwarder /var/lib/private/pipeline-forwarder \
    /etc/dicomweb-proxy /etc/systemd/system/dicomweb-proxy.service /var/lib/dicomweb-proxy \
    /etc/static-dicomweb /etc/static-dicomweb-scp /etc/static-dicomweb-sync /etc/static-dicomweb-feed \
    /etc/systemd/system/static-dicomweb.service /etc/systemd/system/static-dicomweb-scp.service \
    /etc/systemd/system/static-dicomweb-sync.service /etc/systemd/system/static-dicomweb-feed.service \
    /usr/local/bin/mkdicomweb /var/lib/static-dicomweb-feed /var/lib/private/static-dicomweb-feed \
    /etc/systemd/system/orthanc@.service /etc/systemd/system/nginx.service.d /etc/systemd/system/postgresql@.service.d \
    /etc/dicomweb-firewall.nft /etc/systemd/system/dicomweb-firewall.service \
    /usr/local/sbin/dicomweb-quickack /etc/systemd/system/dicomweb-quickack.service "$@"
systemctl daemon-reload
echo "removed:$units"
