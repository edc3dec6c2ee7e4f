#!/bin/bash
# kafka-topics.sh --bootstrap-server ADDRESS --list|--describe|...
set -euo pipefail
exec "$(dirname "$0")/kafka-run-class.sh" org.apache.kafka.tools.TopicCommand "$@"
