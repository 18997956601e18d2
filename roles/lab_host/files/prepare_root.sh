#!/bin/sh
# Takes from a root what each host has of its own, and gives it what makes a lab quick.
# Usage: prepare_root.sh ROOT
set -eu
root=$1
rm -f "$root"/etc/ssh/ssh_host_*
cp "$(dirname "$0")"/python/kept_byte_code.* "$root/usr/lib/python3/dist-packages/"
# By itself dpkg waits for the disk after each file. A lab host whose power is cut while packages are installed is made anew.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/lab"
# systemd runs its generators anew whenever it is reloaded. These are for boot loaders, consoles and disks that no lab host has.
mkdir -p "$root/etc/systemd/system-generators"
for name in bless-boot cryptsetup debug getty gpt-auto hibernate-resume integritysetup run ssh system-update tpm2 veritysetup; do
    ln -sf /dev/null "$root/etc/systemd/system-generators/systemd-$name-generator"
done
