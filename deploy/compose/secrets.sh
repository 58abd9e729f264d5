#!/bin/sh
# Makes the secrets that compose.yaml names, where there are none yet.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
for name in admin-token grafana-password; do
    [ -s "secrets/$name" ] || head -c 32 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' > "secrets/$name"
    # The containers' users are not this one; the folder keeps others on this machine out.
    chmod 0444 "secrets/$name"
done
chmod 0700 secrets
printf 'secrets/admin-token opens the admin port, secrets/grafana-password Grafana\n'
