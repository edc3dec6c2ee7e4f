#!/bin/bash
# kafka-run-class.sh CLASS ARGUMENT... runs one of Kafka's programs.
set -euo pipefail

# Words, as in Kafka's own script of this name.
read -ra heap <<<"${KAFKA_HEAP_OPTS:--Xmx256m}"
read -ra options <<<"${KAFKA_OPTS:-}"
exec java "${heap[@]}" -XX:+UseSerialGC -Djava.net.preferIPv4Stack=true \
  -Dorg.slf4j.simpleLogger.defaultLogLevel="${KAFKA_LOG_LEVEL:-info}" \
  -Dorg.slf4j.simpleLogger.showDateTime=true \
  -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS \
  "${options[@]}" -cp '/opt/kafka/libs/*' "$@"
