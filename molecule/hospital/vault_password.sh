#!/bin/sh
# Ansible asks for the password of the vault here; before prepare.yml there is none, and nothing to open.
cat "$(dirname "$0")/../../.cache/hospital/vault_password" 2>/dev/null || echo none-yet
