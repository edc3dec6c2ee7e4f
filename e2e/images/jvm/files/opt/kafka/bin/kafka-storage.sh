#!/bin/bash
# kafka-storage.sh format|info|random-uuid ... prepares a broker's data folder.
set -euo pipefail
export KAFKA_LOG_LEVEL=${KAFKA_LOG_LEVEL:-warn} # an answer, not a log
exec "$(dirname "$0")/kafka-run-class.sh" kafka.tools.StorageTool "$@"
