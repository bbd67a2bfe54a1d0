#!/bin/sh
# The entry point of the standby: copies the primary once, then follows it under the name that commits wait for.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(cat /run/secrets/replication_password)
    PGPASSWORD="$password" pg_basebackup \
        --dbname="host=$PRIMARY_HOST port=$PRIMARY_PORT user=replicator application_name=postgres_2" \
        --pgdata="$PGDATA" --wal-method=stream --slot=postgres_2 --write-recovery-conf --checkpoint=fast
fi
exec docker-entrypoint.sh "$@"
