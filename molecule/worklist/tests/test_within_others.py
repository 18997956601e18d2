"""A site beside what others have on its host. It is the last file of the scenario: the site is gone then."""

from __future__ import annotations

from hosts import HOSTS, play


def test_reset_leaves_what_others_have() -> None:
    """Another's database, another's cluster that has a database of the same name as ours, and another's page in nginx.

    With apt's lists gone, as on a host that was made of an image, or reaches no repository.
    """
    (host,) = HOSTS
    version = host.run("ls /etc/postgresql").strip()
    host.run(f"pg_createcluster --start {version} other && su postgres -c 'PGCLUSTER={version}/other createdb pyupsrs'")
    host.run("su postgres -c 'createdb lis' && su postgres -c \"psql -qc 'create table orders (id int)' lis\"")
    host.run("echo 'server { listen 127.0.0.1:8901; return 204; }' >/etc/nginx/conf.d/intranet.conf")
    host.run("rm -rf /var/lib/apt/lists && mv /etc/apt/sources.list /root/")
    ended = play("playbooks/reset.yml", "-e", f"confirm={host.name}")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert "the database lis" in ended.stdout and "intranet.conf" in ended.stdout
    assert f"the cluster {version}/other" in ended.stdout
    assert (
        host.run(f"su postgres -c 'PGCLUSTER={version}/other psql -Atc \"select count(*) from pg_database\" pyupsrs'").strip()
        == "4"
    )
    left = host.run("su postgres -c 'psql -Atc \"select datname from pg_database where not datistemplate\"'").split()
    assert sorted(left) == ["lis", "postgres"]
    assert host.run("su postgres -c 'psql -Atc \"select count(*) from orders\" lis'").strip() == "0"
    assert host.run("python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8901/').status)\"").strip() == "204"
    assert host.shell.run("ls -d /var/lib/orthanc /etc/orthanc /etc/haproxy").stdout == ""
    host.run("rm /etc/nginx/conf.d/intranet.conf && su postgres -c 'dropdb lis'")
