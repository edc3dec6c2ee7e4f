#!/usr/bin/env bash
# PostgreSQL from Debian. The harness runs its programs where Debian puts them.
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

require_packages "postgresql-$POSTGRES_MAJOR" "postgresql-client-$POSTGRES_MAJOR" util-linux
