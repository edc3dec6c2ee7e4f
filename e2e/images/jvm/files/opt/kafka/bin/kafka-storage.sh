#!/bin/bash
# kafka-storage.sh format|info|random-uuid ... prepares a broker's data folder.
set -euo pipefail
exec "$(dirname "$0")/kafka-run-class.sh" kafka.tools.StorageTool "$@"
