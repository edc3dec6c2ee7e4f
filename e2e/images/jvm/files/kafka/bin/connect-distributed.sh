#!/bin/bash
# connect-distributed.sh PROPERTIES runs a Connect worker.
set -euo pipefail
exec /opt/kafka/bin/kafka-run-class.sh org.apache.kafka.connect.cli.ConnectDistributed "$@"
