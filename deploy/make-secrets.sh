#!/bin/sh
# Makes a folder with one file for each secret. What can be made is made; what the providers give is left empty, and
# nothing starts until you have written it there. Nothing that is there already is changed.
#   deploy/make-secrets.sh [FOLDER]
set -eu
folder=${1:-deploy/secrets}
umask 077
mkdir -p "$folder"
if [ -n "$(ls -A "$folder")" ] && [ ! -e "$folder/encryption-keys" ]; then
    echo "$folder holds other things: name a folder that is for the secrets alone" >&2
    exit 1
fi
# The folder keeps other users out, before anything is in it. Each file alone is open to others: Docker Compose mounts
# it as it is into containers, which read it under a user id of their own.
chmod 0700 "$folder"

secret() {
    name=$1
    shift
    [ -s "$folder/$name" ] || "$@" >"$folder/$name"
    chmod 0644 "$folder/$name"
}
whsec() { printf 'whsec_%s\n' "$(openssl rand -base64 32)"; }
rsa() { openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null; }
url() { printf 'postgresql://orchestrator:%s@database/orchestrator\n' "$(cat "$folder/database-password")"; }

secret encryption-keys openssl rand -base64 32
secret signup-secrets whsec
secret notify-secret whsec
secret osl-private-key rsa
secret database-password openssl rand -hex 24
secret database-url url
for given in btse-api-key btse-secret-key osl-webhook-public-key; do
    secret "$given" true
    [ -s "$folder/$given" ] || echo "write what the provider gave you into $folder/$given" >&2
done
echo "give OSL Pay this public key of yours:" >&2
openssl pkey -in "$folder/osl-private-key" -pubout
