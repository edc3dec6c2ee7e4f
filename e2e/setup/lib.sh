# shellcheck shell=bash
# What every script in e2e/setup shares: pinned versions, the cache, locks, and
# steps that say how long they took and what to do when they fail. Sourced, never run.
#
# The cache: ~/.cache/tidemark/PART-HASH12/ is made in a temporary folder and
# renamed when it is complete, so a folder that exists is a folder that is whole.
# ~/.cache/tidemark/current/PART points at the one that the checkout wants.
set -euo pipefail

setup_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
e2e_dir=$(dirname "$setup_dir")
cache_dir=${TIDEMARK_CACHE:-$HOME/.cache/tidemark}
log_dir=$cache_dir/logs
mkdir -p "$cache_dir/current" "$cache_dir/locks" "$log_dir"

# shellcheck source=../versions.env
source "$e2e_dir/versions.env"

# Steps of scripts that `all` runs side by side count from the same moment.
export TIDEMARK_SETUP_START=${TIDEMARK_SETUP_START:-$EPOCHSECONDS}

# say TEXT prints one line with the seconds since the set-up began. Whole lines
# only, so that steps that run side by side stay readable without a terminal.
say() {
  printf '[%4d s] %s\n' $((EPOCHSECONDS - TIDEMARK_SETUP_START)) "$*" >&2
}

# step NAME COMMAND... runs a command with its output in a log file and prints
# the name and the seconds it took. A failure prints the log's last lines and
# the advice in $step_advice.
step() {
  # The prefix: functions that are run as steps see these variables.
  local step_name=$1 step_log step_status=0 step_start=$SECONDS
  shift
  step_log=$log_dir/$(tr -cs 'A-Za-z0-9.\n' '-' <<<"$step_name").log
  say "$step_name ..."
  # In the background, since `set -e` does not hold to the left of `||`; in a
  # process group of its own, so that an interrupt ends all that it started.
  set -m
  "$@" >"$step_log" 2>&1 </dev/null &
  set +m
  step_group=$!
  trap 'kill -- -"$step_group" 2>/dev/null; exit 130' INT TERM
  wait "$step_group" || step_status=$?
  trap - INT TERM
  if [ "$step_status" -eq 0 ]; then
    say "$step_name: done in $((SECONDS - step_start)) s"
    return 0
  fi
  {
    say "$step_name: FAILED after $((SECONDS - step_start)) s"
    echo "--- the last lines of $step_log"
    tail -n 25 "$step_log"
    echo "--- step '$step_name' failed. ${step_advice:-Mend the cause named above and run the same command again: finished parts are kept.}"
  } >&2
  return "$step_status"
}

# await SECONDS COMMAND... repeats a silent check until it succeeds or the time is up.
await() {
  local deadline=$((EPOCHSECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$EPOCHSECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

# take_lock NAME waits until no other process holds the lock and keeps it until
# this script ends. A daemon started from here must close "$lock_fd".
take_lock() {
  exec {lock_fd}>"$cache_dir/locks/$1"
  flock --nonblock "$lock_fd" && return 0
  say "waiting for another set-up that holds $cache_dir/locks/$1"
  flock --timeout 5400 "$lock_fd" || {
    say "gave up after 90 minutes: see which process holds the lock with: fuser $cache_dir/locks/$1"
    return 1
  }
}

# part_hash TEXT-OR-FILE... prints 12 hexadecimal digits that change when any of
# the texts, or the contents of any of the files, change.
part_hash() {
  local item
  for item in "$@"; do
    if [ -f "$item" ]; then sha256sum <"$item"; else printf '%s\n' "$item"; fi
  done | sha256sum | cut -c1-12
}

# part_ready PART HASH succeeds when the part is in the cache, and makes it current.
part_ready() {
  [ -d "$cache_dir/$1-$2" ] || return 1
  ln -sfnT "$cache_dir/$1-$2" "$cache_dir/current/$1"
}

# part_begin PART prints a fresh temporary folder in which to make the part.
# Folders left behind by aborted runs go first: the lock says nobody uses them.
part_begin() {
  rm -rf "$cache_dir/.$1".??????
  mktemp -d "$cache_dir/.$1.XXXXXX"
}

# part_publish PART HASH FOLDER makes the finished folder the current part and
# drops the part's older versions but the last one (another branch may want it).
part_publish() {
  local old
  chmod 755 "$3"
  # Another run may have published the same part meanwhile: both are equal.
  mv -T "$3" "$cache_dir/$1-$2" 2>/dev/null || rm -rf "$3"
  part_ready "$1" "$2"
  find "$cache_dir" -maxdepth 1 -type d -regex ".*/$1-[0-9a-f]*" ! -name "$1-$2" -printf '%T@ %p\n' |
    sort -rn | tail -n +2 | cut -d' ' -f2- | while IFS= read -r old; do rm -rf "$old"; done
}

# require_packages PACKAGE... installs the Debian packages that are missing.
require_packages() {
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  step_advice="Install them by hand: apt-get install ${missing[*]}" \
    step "Debian packages: ${missing[*]}" install_packages "${missing[@]}"
}

install_packages() {
  local options=(-y --no-install-recommends -o DPkg::Lock::Timeout=900)
  export DEBIAN_FRONTEND=noninteractive
  # The package lists may be absent or old on a new machine: refresh them once.
  apt-get install "${options[@]}" "$@" || {
    apt-get update && apt-get install "${options[@]}" "$@"
  }
}

# require_programs PROGRAM:PACKAGE... installs the Debian package of each program
# that is not on the path: it may be there by another way.
require_programs() {
  local pair packages=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
  done
  require_packages "${packages[@]}"
}

# Two set-ups must not make the same part at once: each script that makes parts
# holds its own lock while it runs. (`all` only starts the others.)
if [ "$(cd "$(dirname "$0")" && pwd)" = "$setup_dir" ] && [ "$(basename "$0")" != all ]; then
  take_lock "$(basename "$0" .sh)"
fi
