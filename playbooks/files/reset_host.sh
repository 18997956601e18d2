#!/bin/sh
# Stops the units and removes what the roles brought: the site's databases, packages, files, users' data. What others have in PostgreSQL or
# nginx stays, with its package, and is named.
# Usage: reset_host.sh UNIT... -- DATABASE... -- PATH...
set -eu
units=
while [ "$1" != -- ]; do
    units="$units $1"
    shift
done
shift
databases=
while [ "$1" != -- ]; do
    databases="$databases $1"
    shift
done
shift
for unit in $units; do
    case $unit in
    postgresql*) ;;
    *) systemctl disable --now "$unit" 2>/dev/null || true ;;
    esac
done
systemctl unmask orthanc.service 2>/dev/null || true

# The site's own cluster: Debian may have others beside it, and psql would take the first of them.
own_cluster=
for settings in /etc/postgresql/*/main/conf.d/dicomweb.conf; do
    [ ! -e "$settings" ] || own_cluster=$(echo "$settings" | cut -d / -f 4)/main
done

has_own_cluster() {
    [ -n "$own_cluster" ] || [ -e /var/lib/pgsql/data/conf.d/dicomweb.conf ]
}

ask_postgresql() {
    su postgres -c "${own_cluster:+PGCLUSTER=$own_cluster} psql --no-psqlrc --quiet --tuples-only --no-align --command=\"$1\"" 2>/dev/null
}

# Each has a user of its name.
drop_databases() {
    has_own_cluster || return 0
    for name in $databases; do
        ask_postgresql "drop database if exists $name with (force)" && ask_postgresql "drop role if exists $name" || true
    done
    # Who has read Orthanc's index.
    ask_postgresql "drop role if exists orthanc_reader" || true
}

others_in_postgresql() {
    for cluster in /etc/postgresql/*/*; do
        [ ! -d "$cluster" ] || [ -e "$cluster/conf.d/dicomweb.conf" ] || echo "the cluster ${cluster#/etc/postgresql/}"
    done
    if ! has_own_cluster; then
        [ ! -e /var/lib/pgsql/data/PG_VERSION ] || echo "the cluster /var/lib/pgsql/data"
        return 0
    fi
    # Where nobody answers, nobody knows whose data there is.
    ask_postgresql "select 'the database ' || datname from pg_database where not datistemplate and datname <> 'postgres'" ||
        echo "databases of a PostgreSQL that doesn't answer"
}

others_in_nginx() {
    for file in /etc/nginx/conf.d/*.conf /etc/nginx/sites-enabled/*; do
        [ ! -e "$file" ] || [ "$file" = /etc/nginx/sites-enabled/default ] || echo "$file"
    done
}

# Only what is installed: purging asks for nothing else.
purge_by_apt() {
    # shellcheck disable=SC2086 # one word a package
    installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' $1 2>/dev/null |
        sed -n 's/ installed$//p; s/ config-files$//p')
    [ -n "$installed" ] || return 0
    echo postgresql-common postgresql-common/purge-data boolean true | debconf-set-selections 2>/dev/null || true
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get purge --yes --quiet --quiet $installed >/dev/null
}

remove_by_dnf() {
    # shellcheck disable=SC2086 # one word a package
    installed=$(rpm --query --all --queryformat '%{NAME}\n' $1)
    # shellcheck disable=SC2086
    [ -z "$installed" ] || dnf remove --assumeyes --quiet $installed >/dev/null
}

# Whether it was the site that configured a program, by the drop-in of its unit.
is_of_the_site() {
    [ -e "/etc/systemd/system/$1/dicomweb.conf" ]
}

# Packages, by patterns.
remove_packages() {
    if command -v dnf >/dev/null; then remove_by_dnf "$1"; else purge_by_apt "$1"; fi
}

remove_postgresql() {
    systemctl disable --now "$@" 2>/dev/null || true
    remove_packages 'postgresql*'
    rm -rf /etc/postgresql /var/lib/postgresql /var/lib/pgsql
}

# The cluster goes on for others, as its package has it, but for who may come in.
leave_postgresql() {
    rm -f /etc/postgresql/*/main/conf.d/dicomweb.conf /var/lib/pgsql/data/conf.d/dicomweb.conf
    rm -rf /etc/systemd/system/postgresql@.service.d /etc/systemd/system/postgresql.service.d
    systemctl daemon-reload
    [ $# -eq 0 ] || systemctl restart "$@"
}

remove_nginx() {
    remove_packages 'nginx* libnginx-mod*'
    rm -rf /etc/nginx /var/lib/nginx
}

reinstall_nginx() {
    DEBIAN_FRONTEND=noninteractive apt-get install --reinstall --yes --quiet --quiet -o Dpkg::Options::=--force-confmiss nginx-common >/dev/null || true
}

write_least_nginx() {
    for user in nginx www-data; do
        ! id "$user" >/dev/null 2>&1 || break
    done
    cat >/etc/nginx/nginx.conf <<EOF
user $user;
worker_processes auto;
pid /run/nginx.pid;
include /etc/nginx/modules-enabled/*.conf;
events { }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    include /etc/nginx/conf.d/*.conf;
    include /etc/nginx/sites-enabled/*;
}
EOF
}

# nginx.conf is the site's own: the package's comes back, or where no repository has it, the least by which others' sites are served.
leave_nginx() {
    rm -rf /etc/nginx/nginx.conf /etc/nginx/perl /etc/nginx/tls /etc/nginx/users
    find /etc/nginx -name '*dicomweb*' -delete
    if command -v dnf >/dev/null; then
        dnf reinstall --assumeyes --quiet nginx-core >/dev/null || true
    else
        # apt says that it can't, and ends well.
        reinstall_nginx
        [ -e /etc/nginx/nginx.conf ] || { apt-get update --quiet --quiet && reinstall_nginx; } || true
    fi
    [ -e /etc/nginx/nginx.conf ] || write_least_nginx
    rm -rf /etc/systemd/system/nginx.service.d
    systemctl daemon-reload
    systemctl enable --now nginx.service
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

own=$(echo "$units" | tr ' ' '\n' | grep '^postgresql' || true)
# shellcheck disable=SC2086
[ -z "$own" ] || systemctl start $own 2>/dev/null || true
drop_databases
postgresql=$(others_in_postgresql)
nginx=$(others_in_nginx)
# shellcheck disable=SC2086 # one word a unit
if [ -n "$postgresql" ]; then leave_postgresql $own; else remove_postgresql $own; fi
if is_of_the_site nginx.service.d; then
    if [ -n "$nginx" ]; then leave_nginx; else remove_nginx; fi
fi
if is_of_the_site haproxy.service.d; then
    remove_packages haproxy
    rm -rf /etc/haproxy
fi
if [ -e /etc/systemd/system/orthanc@.service ]; then
    remove_packages 'orthanc*'
    rm -rf /etc/orthanc /var/lib/orthanc
fi
close_firewalld
close_ufw
rm -rf /etc/postgresql-common/createcluster.d/dicomweb.conf \
    /etc/archive-dicomweb /etc/systemd/system/archive-dicomweb.service /etc/systemd/system/archive-dicomweb.socket \
    /var/lib/archive-dicomweb /var/lib/private/archive-dicomweb \
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
[ -z "$postgresql$nginx" ] || echo "left, since others have them here: $(echo "$postgresql" "$nginx" | tr '\n' ' ')"
