#!/usr/bin/env bash
# Kafka with Connect, and Debezium's connector, from Maven Central.
# Makes the parts `kafka` (libs/*.jar) and `debezium` (a Connect plugin folder).
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

require_programs java:openjdk-17-jre-headless mvn:maven
make_part kafka "$KAFKA_SCALA_VERSION-$KAFKA_VERSION"
make_part debezium "$DEBEZIUM_VERSION"
