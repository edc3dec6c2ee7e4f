#!/bin/bash
# kafka-consumer-groups.sh --bootstrap-server ADDRESS --list|--describe|...
set -euo pipefail
export KAFKA_LOG_LEVEL=${KAFKA_LOG_LEVEL:-warn} # an answer, not a log
exec "$(dirname "$0")/kafka-run-class.sh" org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"
