#!/bin/sh
# One key pair opens the lab's hosts; one host key serves them all, so that known_hosts can be strict from the first login.
# Usage: make_keys.sh LAB_DIR
set -eu
umask 077
cd "$1"
rm -f host_key host_key.pub new_key new_key.pub
ssh-keygen -q -t ed25519 -N '' -C dicomweb-lab-host -f host_key
ssh-keygen -q -t ed25519 -N '' -C dicomweb-lab -f new_key
: >known_hosts
mv new_key.pub id_ed25519.pub
mv new_key id_ed25519
