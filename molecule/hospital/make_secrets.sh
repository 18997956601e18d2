#!/bin/sh
# What a hospital brings of its own: passwords that Ansible Vault keeps, and a certificate from its PKI.
# Usage: make_secrets.sh DIRECTORY
set -eu
umask 077
rm -rf "$1"
mkdir -p "$1/inventory/group_vars/all"
cd "$1"
echo 'all: {}' >inventory/hosts.yml
openssl rand -hex 16 >vault_password
# Molecule names a password file of its own by the environment; two would be ambiguous.
unset ANSIBLE_VAULT_PASSWORD_FILE
vault() { openssl rand -hex 16 | tr -d '\n' | ansible-vault encrypt_string --vault-password-file vault_password --stdin-name "$1" 2>/dev/null; }
{
    echo '---'
    vault vault_database_password
    vault vault_archive_password
    vault vault_worklist_password
    vault vault_radiology_password
    echo 'vault_web_users: {radiology: "{{ vault_radiology_password }}"}'
} >inventory/group_vars/all/secrets.yml

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj '/CN=Hospital CA' \
    -keyout ca.key -out ca.crt 2>/dev/null
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=dicom.hospital.example' \
    -keyout dicom.hospital.example.key -out site.csr 2>/dev/null
printf 'subjectAltName=DNS:dicom.hospital.example,IP:10.77.3.13\n' >site.ext
openssl x509 -req -in site.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 90 -extfile site.ext \
    -out dicom.hospital.example.crt 2>/dev/null
