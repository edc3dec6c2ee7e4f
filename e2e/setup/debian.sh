#!/usr/bin/env bash
# Debian packages that the other scripts call: the container engine, the maker
# of root file systems, and the small programs of every script.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "$(id -u)" -ne 0 ]; then
  say "run this as root: it installs Debian packages and starts a container engine"
  exit 1
fi
require_programs jq:jq curl:curl xz:xz-utils openssl:openssl pgrep:procps
require_programs iptables:iptables mmdebstrap:mmdebstrap dockerd:docker.io docker:docker.io
