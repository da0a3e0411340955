#!/bin/sh
# Runs roles.sql at the container's first start. Passwords go from files into the environment, never into
# arguments.
set -eu
FORMATION_SERVER_PASSWORD=$(cat /run/secrets/server_password)
FORMATION_WORKER_PASSWORD=$(cat /run/secrets/worker_password)
export FORMATION_SERVER_PASSWORD FORMATION_WORKER_PASSWORD
psql -X -v ON_ERROR_STOP=1 -U postgres -f /etc/formation/roles.sql
