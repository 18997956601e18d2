#!/bin/sh
# Makes RPM packages of Debian's programs, under the names that RHEL 9 has for them and with files where RHEL 9 has them, and their
# repository in ROOT/srv/el9. The libraries that they need are installed into ROOT as Debian's packages: this is a stand-in for RHEL, whose
# own packages it says nothing of.
# Usage: make_packages.sh ROOT
set -eu
root=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$root/root/packages
repository=$root/srv/el9
arch=$(uname -m)
mkdir -p "$work/debs" "$work/trees" "$repository"

in_root() {
    chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"
}

# Unpack the Debian packages NAME... into the tree TREE.
unpack() {
    tree=$work/trees/$1
    shift
    mkdir -p "$tree"
    for name in "$@"; do
        dpkg-deb --fsys-tarfile "$work"/debs/"$name"_*.deb | tar -x -C "$tree"
    done
    rm -rf "$tree/usr/share/doc" "$tree/usr/share/man" "$tree/usr/share/lintian" "$tree/usr/share/bug" "$tree/usr/share/locale"
}

# Build the RPM package NAME VERSION of the tree NAME. SCRIPT is run before it is installed.
build() {
    name=$1 version=$2 requires=$3 script=${4:-}
    mkdir -p "$work/trees/$name"
    {
        printf 'Name: %s\nVersion: %s\nRelease: 1.el9\nSummary: Stand-in for the package %s of RHEL 9\n' "$name" "$version" "$name"
        printf 'License: as in Debian\nAutoReqProv: no\n'
        case $name in
        bash) echo 'Provides: /bin/sh' ;;
        redhat-release) printf 'Provides: system-release = 9\nProvides: system-release(releasever) = 9\n' ;;
        esac
        [ -z "$requires" ] || printf 'Requires: %s\n' "$requires"
        printf '%%description\nThe programs are those of Debian 12.\n'
        printf '%%install\nmkdir -p %%{buildroot}\ncp -a /root/packages/trees/%s/. %%{buildroot}/\n' "$name"
        [ -z "$script" ] || printf '%%pre\n%s\n' "$script"
        # As RHEL's do by triggers of systemd's.
        printf '%%post\nsystemd-tmpfiles --create || true\nsystemctl daemon-reload || true\n%%files\n'
        (cd "$work/trees/$name" && find . \( -type f -o -type l \) -printf '"/%P"\n')
        # What belongs to nobody else, and must not be root's.
        if [ "$name" = postgresql-server ]; then
            printf '%%dir %%attr(0700, postgres, postgres) %s\n' /var/lib/pgsql /var/lib/pgsql/data /var/lib/pgsql/backups
        fi
        if [ "$name" = nginx ]; then printf '%%dir %s\n' /etc/nginx/conf.d /etc/nginx/default.d /var/lib/nginx /var/log/nginx; fi
    } >"$work/$name.spec"
    in_root rpmbuild --quiet -bb --define '_build_id_links none' --define '__os_install_post %{nil}' --define '_rpmdir /srv' \
        --define '_rpmfilename el9/%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm' "/root/packages/$name.spec"
}

get_debs() {
    programs='haproxy orthanc orthanc-dicomweb orthanc-postgresql postgresql-15 postgresql-client-15 nginx nginx-common libnginx-mod-http-perl libpq5'
    libraries=$(in_root apt-get -qq --simulate --no-install-recommends install $programs | awk '/^Inst/ { print $2 }')
    for program in $programs postgresql-common postgresql-client-common ssl-cert nginx-light libnginx-mod-http-echo dcmtk locales; do
        libraries=$(echo "$libraries" | grep -v -x "$program")
    done
    in_root apt-get -qq --no-install-recommends install $libraries >/dev/null
    # RHEL 9's own Python is 3.9, as Debian 11's is; so are what Ansible needs of it, and the libraries that it was built with.
    # Debian 11 is about to move to where old releases are.
    for archive in deb.debian.org archive.debian.org; do
        echo "deb http://$archive/debian bullseye main" >"$root/etc/apt/sources.list.d/bullseye.list"
        ! in_root apt-get -qq update --error-on=any || break
    done
    (
        cd "$work/debs"
        chroot "$root" sh -c "cd /root/packages/debs && apt-get -qq download $programs python3.9-minimal libpython3.9-minimal \
            libpython3.9-stdlib libssl1.1 libffi7 python3-psycopg2/bullseye"
    )
    rm "$root/etc/apt/sources.list.d/bullseye.list"
}

make_postgresql() {
    unpack postgresql-server postgresql-15
    server=$work/trees/postgresql-server
    rm -rf "$server/etc" "$server/usr/share/postgresql-common"
    mkdir -p "$server/usr/bin" "$server/usr/lib/systemd/system" "$server/usr/lib/tmpfiles.d"
    for program in "$server"/usr/lib/postgresql/15/bin/*; do
        ln -s "../lib/postgresql/15/bin/${program##*/}" "$server/usr/bin/${program##*/}"
    done
    ln -sf postgres "$server/usr/bin/postmaster"
    install -m 0755 "$here/postgresql-setup" "$server/usr/bin/"
    install -m 0644 "$here/postgresql.service" "$server/usr/lib/systemd/system/"
    echo 'd /run/postgresql 0755 postgres postgres -' >"$server/usr/lib/tmpfiles.d/postgresql.conf"
    mkdir -p "$server/var/lib/pgsql/data" "$server/var/lib/pgsql/backups"

    # RHEL has the extensions in a package of their own.
    contrib=$work/trees/postgresql-contrib
    mkdir -p "$contrib/usr/share/postgresql/15/extension" "$contrib/usr/lib/postgresql/15/lib"
    for control in "$server"/usr/share/postgresql/15/extension/*.control; do
        extension=$(basename "$control" .control)
        [ "$extension" != plpgsql ] || continue
        mv "$server/usr/share/postgresql/15/extension/$extension"* "$contrib/usr/share/postgresql/15/extension/" 2>/dev/null || true
        mv "$server/usr/lib/postgresql/15/lib/$extension.so" "$contrib/usr/lib/postgresql/15/lib/" 2>/dev/null || true
    done

    unpack postgresql postgresql-client-15
    mkdir -p "$work/trees/postgresql/usr/bin"
    for program in psql pg_dump pg_restore createdb dropdb; do
        ln -s "../lib/postgresql/15/bin/$program" "$work/trees/postgresql/usr/bin/$program"
    done
    unpack postgresql-private-libs libpq5
    unpack python3-psycopg2 python3-psycopg2
    build postgresql-private-libs 15.0 ''
    build postgresql 15.0 postgresql-private-libs
    build postgresql-server 15.0 'postgresql = 15.0' 'getent group postgres >/dev/null || groupadd -r postgres
getent passwd postgres >/dev/null || useradd -r -g postgres -d /var/lib/pgsql -s /bin/bash postgres'
    build postgresql-contrib 15.0 'postgresql-server = 15.0'
    build python3-psycopg2 2.8.6 postgresql-private-libs
}

make_nginx() {
    unpack nginx nginx nginx-common
    tree=$work/trees/nginx
    cp "$tree/etc/nginx/mime.types" "$work/mime.types"
    rm -rf "$tree/etc" "$tree/lib" "$tree/usr/share/nginx" "$tree/usr/lib/python3" "$tree/usr/share/apport" "$tree/usr/share/vim" "$tree/var"
    mkdir -p "$tree/etc/nginx/conf.d" "$tree/etc/nginx/default.d" "$tree/usr/lib/systemd/system" "$tree/usr/share/nginx/html" \
        "$tree/usr/share/nginx/modules" "$tree/var/lib/nginx" "$tree/var/log/nginx"
    cp "$work/mime.types" "$tree/etc/nginx/"
    install -m 0644 "$here/nginx.conf" "$tree/etc/nginx/"
    install -m 0644 "$here/nginx.service" "$tree/usr/lib/systemd/system/"
    echo 'the page of a distribution' >"$tree/usr/share/nginx/html/index.html"

    unpack nginx-mod-http-perl libnginx-mod-http-perl
    tree=$work/trees/nginx-mod-http-perl
    rm -rf "$tree/etc" "$tree/usr/share/nginx"
    mkdir -p "$tree/usr/share/nginx/modules" "$tree/usr/lib64/nginx/modules"
    mv "$tree/usr/lib/nginx/modules/ngx_http_perl_module.so" "$tree/usr/lib64/nginx/modules/"
    echo 'load_module "/usr/lib64/nginx/modules/ngx_http_perl_module.so";' >"$tree/usr/share/nginx/modules/mod-http-perl.conf"
    build nginx 1.22.1 '' 'getent group nginx >/dev/null || groupadd -r nginx
getent passwd nginx >/dev/null || useradd -r -g nginx -d /var/lib/nginx -s /sbin/nologin nginx'
    build nginx-mod-http-perl 1.22.1 'nginx = 1.22.1'
}

# RHEL's unit begins like Debian's, and its configuration is in the same place.
make_haproxy() {
    unpack haproxy haproxy
    tree=$work/trees/haproxy
    mkdir -p "$tree/usr/lib/systemd/system"
    mv "$tree/lib/systemd/system/haproxy.service" "$tree/usr/lib/systemd/system/"
    rm -rf "$tree/lib" "$tree/etc/default" "$tree/etc/init.d" "$tree/etc/logrotate.d" "$tree/etc/rsyslog.d" "$tree/usr/share/vim"
    build haproxy 2.6.12 '' 'getent group haproxy >/dev/null || groupadd -r haproxy
getent passwd haproxy >/dev/null || useradd -r -g haproxy -d /var/lib/haproxy -s /sbin/nologin haproxy'
}

# python3.11 is a package that nobody has installed yet; dnf and firewalld, which are Debian's, go on with theirs (disguise.sh).
make_python() {
    tree=$work/trees/python3.11
    mkdir -p "$tree/usr/bin" "$tree/usr/lib/python3.11"
    cp -a "$root/usr/bin/python3.11" "$tree/usr/bin/"
    mv "$root/usr/lib/python3.11/ensurepip" "$root/usr/lib/python3.11/venv" "$tree/usr/lib/python3.11/"
    build python3.11 3.11.2 ''
}

# What is on the host from the beginning, for rpm to know of.
make_base() {
    for name in redhat-release bash iproute openssl chrony firewalld nftables policycoreutils-python-utils python3 sudo tar; do
        build "$name" 9.0 ''
    done
}

# The Orthanc project's binaries for the Linux Standard Base are served by a mirror of the tests; these stand in for them.
take_orthanc() {
    unpack orthanc orthanc orthanc-dicomweb orthanc-postgresql
    binaries=$root/srv/orthanc
    mkdir -p "$binaries"
    cp "$work/trees/orthanc/usr/sbin/Orthanc" "$binaries/"
    for plugin in DicomWeb PostgreSQLIndex PostgreSQLStorage; do
        cp -L "$(find "$work/trees/orthanc/usr" -type f -name "libOrthanc$plugin.so*")" "$binaries/libOrthanc$plugin.so"
    done
}

# RHEL 9 has PostgreSQL 13 as its packages, and newer ones as streams of the module postgresql.
add_module() {
    cd "$repository"
    {
        printf -- '---\ndocument: modulemd\nversion: 2\ndata:\n  name: postgresql\n  stream: "15"\n  version: 1\n  context: standin\n'
        printf '  arch: %s\n  summary: PostgreSQL 15\n  description: PostgreSQL 15\n  license: {module: [MIT]}\n' "$arch"
        printf '  profiles:\n    server: {rpms: [postgresql-server]}\n  artifacts:\n    rpms:\n'
        for package in postgresql-*.rpm; do
            name=$(basename "$package" ".$arch.rpm")
            printf '    - %s\n' "$(echo "$name" | sed -E "s/-([^-]+-[^-]+)$/-0:\1.$arch/")"
        done
    } >modules.yaml
    in_root createrepo_c --quiet /srv/el9
    rm modules.yaml
}

get_debs
make_postgresql
make_nginx
make_haproxy
make_python
make_base
take_orthanc
add_module
