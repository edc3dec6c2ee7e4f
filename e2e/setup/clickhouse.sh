#!/usr/bin/env bash
# ClickHouse from npm: the whole server is inside libchdb.so, and a launcher of
# ours makes a server process of it. Makes the part `clickhouse`.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_clickhouse() {
  local folder=$1 archive
  cd "$folder"
  archive=$(npm pack --silent "@chdb/lib-linux-x64-gnu@$CHDB_NPM_VERSION")
  tar -xzf "$archive" --strip-components=1 package/libchdb.so
  rm "$archive"
  cc -std=c11 -O2 -Wall -Wextra -Werror -Wl,-rpath,'$ORIGIN' \
    -o clickhouse-server "$e2e_dir/clickhouse/launcher.c" -ldl
}

require_programs npm:npm cc:gcc
require_packages libc6-dev
hash=$(part_hash "$CHDB_NPM_VERSION" "$e2e_dir/clickhouse/launcher.c" "${BASH_SOURCE[0]}")
if ! part_ready clickhouse "$hash"; then
  folder=$(part_begin clickhouse)
  step_advice="The npm registry must be reachable through npm's usual settings (~/.npmrc)." \
    step "clickhouse $CLICKHOUSE_VERSION from npm" make_clickhouse "$folder"
  part_publish clickhouse "$hash" "$folder"
fi
