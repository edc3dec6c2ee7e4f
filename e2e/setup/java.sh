#!/usr/bin/env bash
# Kafka with Connect, and Debezium's connector, from Maven Central.
# Makes the parts `kafka` (libs/*.jar), `debezium` (a Connect plugin folder) and
# `classes` (what the JVMs of broker and worker have loaded once they are up).
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# copy_jars POM FOLDER NAME=VALUE... resolves the dependencies of a pom.
copy_jars() {
  local pom=$1 folder=$2 property flags=()
  shift 2
  for property in "$@"; do flags+=("-D$property"); done
  mvn --batch-mode --no-transfer-progress -f "$pom" dependency:copy-dependencies \
    -DoutputDirectory="$folder" -DincludeScope=runtime "${flags[@]}"
}

make_kafka() {
  copy_jars "$e2e_dir/java/kafka/pom.xml" "$1/libs" \
    kafka.version="$KAFKA_VERSION" kafka.scala.version="$KAFKA_SCALA_VERSION"
}

make_debezium() {
  copy_jars "$e2e_dir/java/debezium/pom.xml" "$1" debezium.version="$DEBEZIUM_VERSION"
}

make_part() {
  local part=$1 version=$2 hash folder
  hash=$(part_hash "$version" "$e2e_dir/java/$part/pom.xml" "${BASH_SOURCE[0]}")
  if part_ready "$part" "$hash"; then return 0; fi
  folder=$(part_begin "$part")
  step_advice="Maven Central must be reachable through Maven's usual settings (~/.m2/settings.xml)." \
    step "$part $version from Maven Central" "make_$part" "$folder"
  part_publish "$part" "$hash" "$folder"
}

# render FILE fills in the ${NAME}s of a configuration from the environment.
render() {
  python3 -c 'import os, string, sys; print(string.Template(open(sys.argv[1]).read()).substitute(os.environ))' "$1"
}

# make_classes FOLDER starts a broker and a worker once and has both JVMs write down
# the classes that they loaded. A JVM that maps them is up in a third of the time, for
# a quarter of the processor time: tests start several of each.
make_classes() (
  kafka=$(readlink -f "$cache_dir/current/kafka")
  work=$(mktemp -d)
  trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
  mkdir "$work/data" "$work/plugins"
  ln -s "$(readlink -f "$cache_dir/current/debezium")" "$work/plugins/debezium"
  printf '%s\n' version=1 cluster.id=dGlkZW1hcmstY2x1c3Rlcg node.id=1 directory.id=dGlkZW1hcmstYnJva2VyMQ \
    >"$work/data/meta.properties"
  read -r KAFKA_PORT KAFKA_CONTROLLER_PORT CONNECT_PORT < <(python3 -c '
import socket
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(one.getsockname()[1] for one in free))')
  export KAFKA_PORT KAFKA_CONTROLLER_PORT CONNECT_PORT BIND=127.0.0.1 HOST=127.0.0.1 KAFKA_DATA=$work/data
  export KAFKA_BOOTSTRAP=127.0.0.1:$KAFKA_PORT CONNECT_PLUGINS=$work/plugins
  render "$e2e_dir/config/kafka/server.properties" >"$work/server.properties"
  render "$e2e_dir/config/kafka/connect-distributed.properties" >"$work/connect.properties"
  run() { exec java -Xmx512m -XX:+UseSerialGC "-XX:ArchiveClassesAtExit=$1" -cp "$kafka/libs/*" "${@:2}"; }
  run "$1/kafka.jsa" kafka.Kafka "$work/server.properties" &
  broker=$!
  run "$1/connect.jsa" org.apache.kafka.connect.cli.ConnectDistributed "$work/connect.properties" &
  worker=$!
  await 120 python3 -c '
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/connectors", timeout=5)' "$CONNECT_PORT"
  # The worker first: without a broker it would not end.
  kill "$worker" && { wait "$worker" || true; }
  kill "$broker" && { wait "$broker" || true; }
  ls -l "$1/kafka.jsa" "$1/connect.jsa"
)

require_programs java:openjdk-17-jre-headless mvn:maven
make_part kafka "$KAFKA_SCALA_VERSION-$KAFKA_VERSION"
make_part debezium "$DEBEZIUM_VERSION"

classes=$(part_hash "$(java -version 2>&1)" "$(readlink -f "$cache_dir/current/kafka")" "${BASH_SOURCE[0]}")
if ! part_ready classes "$classes"; then
  folder=$(part_begin classes)
  step "classes of Kafka and Connect for quick starts" make_classes "$folder"
  part_publish classes "$classes" "$folder"
fi
