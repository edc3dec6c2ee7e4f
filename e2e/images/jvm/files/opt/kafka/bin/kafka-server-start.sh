#!/bin/bash
# kafka-server-start.sh PROPERTIES runs a broker.
set -euo pipefail
exec "$(dirname "$0")/kafka-run-class.sh" kafka.Kafka "$@"
