#!/bin/bash
# Makes a database cluster in an empty $PGDATA and then runs PostgreSQL, with as
# much of the official image's interface as e2e/manifests uses: POSTGRES_USER,
# POSTGRES_PASSWORD and POSTGRES_DB, and the *.sql files of
# /docker-entrypoint-initdb.d, in the order of their names.
set -euo pipefail

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

make_cluster() {
  : "${POSTGRES_PASSWORD:?set it: the superuser needs a password}"
  initdb --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync
}

# run_sql DATABASE ARGUMENT... over the socket, where only this script connects.
run_sql() {
  local database=$1
  shift
  PGPASSWORD=$POSTGRES_PASSWORD psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 \
    --username "$user" --dbname "$database" "$@"
}

# prepare ARGUMENT... makes the database and runs the files, with the server's
# arguments but not yet open to the network: nobody meets a half-made database.
prepare() {
  local file
  pg_ctl --wait --options="$(printf '%q ' "$@") -c listen_addresses=''" start
  if [ "$database" != postgres ]; then
    run_sql postgres --set "name=$database" <<<'CREATE DATABASE :"name";'
  fi
  for file in /docker-entrypoint-initdb.d/*.sql; do
    [ -f "$file" ] || continue
    echo "docker-entrypoint.sh: running $file"
    run_sql "$database" --file "$file"
  done
  pg_ctl --wait --mode=fast stop
}

if [ "${1:-}" = postgres ] && [ ! -d "$PGDATA/base" ]; then
  # In another folder, renamed at the end: a start that is cut short is repeated.
  final=$PGDATA
  export PGDATA=$final.new
  rm -rf "$PGDATA"
  make_cluster
  prepare "${@:2}"
  rmdir "$final" 2>/dev/null || true
  mv "$PGDATA" "$final"
  export PGDATA=$final
fi
exec "$@"
