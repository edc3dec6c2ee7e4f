# Tidemark. `make` alone lists what there is to make.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Every cargo here is e2e/cargo: it compiles outside the work tree, and only what changed since any clone was compiled.

.PHONY: help
help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | column -t -s $$'\t'

.PHONY: demo
demo: ## A shop, the whole chain and the operator on a kind cluster, with live figures (IMAGES=registry: upstream images)
	@e2e/demo cluster

.PHONY: demo-local
demo-local: ## The same as processes on loopback, without a cluster
	@e2e/demo local

.PHONY: preview
preview: ## The dashboards in a page on the loopback, over a living shop, without a cluster
	@e2e/demo local

.PHONY: test
test: ## Everything that proves it: format, lints, unit, chart, integration and end-to-end tests
	@e2e/test

.PHONY: quick
quick: ## Format, lints and unit tests alone
	@e2e/test quick

.PHONY: test-grafana
test-grafana: ## The dashboards in a Grafana of yours: GRAFANA_URL, GRAFANA_USER, GRAFANA_PASSWORD
	@e2e/test grafana

.PHONY: test-idle
test-idle: ## A thousand whole reconciles of an unchanged pipeline write nothing
	@e2e/test idle

.PHONY: test-kind
test-kind: ## The chain on a kind cluster alone
	@e2e/test kind

.PHONY: test-tables
test-tables: ## Every case of e2e/cases on each version of PostgreSQL that can be had (CASE=name: those alone)
	@TIDEMARK_CASE=$(CASE) e2e/test tables

.PHONY: explore
explore: ## Plans over a model of all systems, and again with each fault at each write (SEED=n, PLAN=name, EVERY=n: one in n)
	@TIDEMARK_SEED=$(SEED) TIDEMARK_PLAN="$(PLAN)" TIDEMARK_EVERY=$(or $(EVERY),1) e2e/test explore

.PHONY: mutants
mutants: ## Takes each guard of the operator away in turn: the plans have to notice
	@e2e/mutants guards

.PHONY: faults
faults: ## Puts silent faults into sink and connector in turn: the continuous verification has to find and repair them
	@e2e/mutants faults

.PHONY: chaos
chaos: ## Tables of every kind written and altered for MINUTES (60) while servers and programs die; then all is equal (SEED=n)
	@TIDEMARK_MINUTES=$(or $(MINUTES),60) TIDEMARK_SEED=$(SEED) e2e/test chaos

.PHONY: model
model: ## HISTORIES (1000000) of source, log, Kafka, sinks, reads and merges, in which the sink's own code decides (SEED=n)
	@TIDEMARK_HISTORIES=$(or $(HISTORIES),1000000) TIDEMARK_SEED=$(SEED) e2e/test model

.PHONY: fuzz
fuzz: ## The decoders on mutated records for MINUTES (60) each
	@e2e/test fuzz $(or $(MINUTES),60)

.PHONY: bench
bench: ## Sink throughput beside ClickHouse's Kafka engine, on the same bytes in the same run
	@e2e/setup/all postgres java clickhouse postgres-versions
	e2e/cargo build --workspace --all-targets --quiet
	$$(e2e/cargo --programs)/tidemark-bench throughput

.PHONY: bench-panels
bench-panels: ## Time of each dashboard panel's query at ten million orders
	@e2e/setup/all postgres java clickhouse postgres-versions
	e2e/cargo build --workspace --all-targets --quiet
	$$(e2e/cargo --programs)/tidemark-bench panels

.PHONY: bench-load
bench-load: ## The first load of ROWS (10000000) rows: the sink's reads beside Debezium's snapshot, with the shop's own p99
	@e2e/setup/all postgres java clickhouse postgres-versions
	e2e/cargo build --workspace --all-targets --quiet
	$$(e2e/cargo --programs)/tidemark-bench load --rows $(or $(ROWS),10000000)

.PHONY: bench-operator
bench-operator: ## An operator with PIPELINES (500), among SECRETS (60000) of others and beside HANGING (1) that never answer
	@e2e/setup/all postgres java clickhouse postgres-versions tools
	e2e/cargo build --workspace --all-targets --quiet
	$$(e2e/cargo --programs)/tidemark-bench operator --pipelines $(or $(PIPELINES),500) --foreign $(or $(SECRETS),60000) --hanging $(or $(HANGING),1)

.PHONY: setup
setup: ## Builds and caches the real components that tests and demo run on
	@e2e/setup/all

.PHONY: generate
generate: ## Writes crds/generated anew
	e2e/cargo build --workspace --all-targets --quiet
	$$(e2e/cargo --programs)/crdgen

.PHONY: clean
clean: ## Ends what a run left behind and removes the cache
	@e2e/clean
