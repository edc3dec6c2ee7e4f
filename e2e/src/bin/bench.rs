//! Measures Tidemark on this machine: `tidemark-bench throughput`.
#![allow(clippy::print_stdout, reason = "the figures are this program's output")]

use clap::{Parser, Subcommand};
use tidemark_e2e::bench::events::{Shape, Workload};
use tidemark_e2e::bench::kafka_engine::Extraction;
use tidemark_e2e::bench::throughput::{self, Contender, Plan};
use tidemark_e2e::bench::{first_row, freshness, load, operator, panels, report};
use tidemark_e2e::stack::{Part, Stack};

/// Measures Tidemark on real components of its own.
#[derive(Parser)]
#[command(name = "tidemark-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Moves one topic of order events by ClickHouse's Kafka engine and by the sink, in turn.
    Throughput {
        /// Events in the topic.
        #[arg(long, default_value_t = 2_000_000)]
        events: u64,
        /// Keys that they change.
        #[arg(long, default_value_t = 500_000)]
        keys: u64,
        /// Runs of each.
        #[arg(long, default_value_t = 3)]
        runs: u32,
        /// How the Kafka engine's view reads an event; several are measured side by side.
        #[arg(long, value_enum, value_delimiter = ',', default_value = "image")]
        engine: Vec<Extraction>,
        /// Leave out the sink.
        #[arg(long)]
        without_sink: bool,
    },
    /// Measures the time from COMMIT to the visible row, at 1,000 events a second and at one in two seconds.
    Freshness {
        /// Rows that are followed at each rate.
        #[arg(long, default_value_t = freshness::Plan::default().samples)]
        samples: usize,
    },
    /// Times each panel's query over a filled shop, as the user that Grafana has.
    Panels {
        /// Orders in the shop.
        #[arg(long, default_value_t = 10_000_000)]
        orders: u64,
        /// Times that each panel is asked.
        #[arg(long, default_value_t = 20)]
        runs: u32,
    },
    /// Times the first load of a table: the sink's reads, Debezium's snapshot, and what PostgreSQL gives at most.
    Load {
        /// Rows of the table.
        #[arg(long, default_value_t = 10_000_000)]
        rows: u64,
        /// Rows that Debezium reads of them.
        #[arg(long, default_value_t = 1_000_000)]
        debezium_rows: u64,
        /// Connections of the sink, one load each.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
        connections: Vec<u8>,
    },
    /// Measures an operator with many pipelines: at rest, among objects of others, beside pipelines that hang.
    Operator {
        /// Pipelines whose systems answer.
        #[arg(long, default_value_t = 500)]
        pipelines: u32,
        /// Pipelines whose systems take a connection and never answer.
        #[arg(long, default_value_t = 1)]
        hanging: u32,
        /// Secrets that no pipeline names; a sixth as many ConfigMaps.
        #[arg(long, default_value_t = 60_000)]
        foreign: u32,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 180)]
        seconds: u64,
        /// Another operator than the one that was built with this program, to set one against the other.
        #[arg(long)]
        operator: Option<std::path::PathBuf>,
    },
    /// Measures the time from `tidemark apply` to the first visible row, on components that run.
    ApplyToFirstRow,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Throughput { events, keys, runs, engine, without_sink } => {
            let mut contenders: Vec<Contender> = engine.into_iter().map(Contender::KafkaEngine).collect();
            if !without_sink {
                contenders.push(Contender::Sink);
            }
            let plan = Plan { workload: Workload { events, keys, shape: Shape::Whole }, runs, contenders };
            let report = throughput::measure(&plan, |text| println!("{text}")).await?;
            println!("{}", throughput::table(&report));
            println!("written to {}", report::write("throughput.json", &report)?.display());
        }
        Command::Freshness { samples } => {
            let stack = Stack::start(Part::CHAIN).await?;
            let plan = freshness::Plan { samples };
            let report = freshness::measure(&stack, plan, |text| println!("{text}")).await?;
            println!("written to {}", report::write("freshness.json", &report)?.display());
        }
        Command::Panels { orders, runs } => {
            let stack = Stack::start(Part::CHAIN).await?;
            let plan = panels::Plan { orders, runs };
            let report = panels::measure(&stack, plan, |text| println!("{text}")).await?;
            println!("{}", panels::table(&report));
            println!("written to {}", report::write("panels.json", &report)?.display());
        }
        Command::Load { rows, debezium_rows, connections } => {
            let plan = load::Plan { rows, debezium_rows, connections };
            let report = load::measure(&plan, |text| println!("{text}")).await?;
            println!("{}", load::table(&report));
            println!("written to {}", report::write("load.json", &report)?.display());
        }
        Command::Operator { pipelines, hanging, foreign, seconds, operator } => {
            let plan = operator::Plan { pipelines, hanging, foreign, seconds, operator };
            let report = operator::measure(&plan, |text| println!("{text}")).await?;
            println!("{}", operator::table(&report));
            println!("written to {}", report::write("operator.json", &report)?.display());
        }
        Command::ApplyToFirstRow => {
            let stack = Stack::start(Part::CHAIN).await?;
            let report = first_row::measure(&stack).await?;
            println!("first row of {} visible {:.1} s after apply", report.rows, report.first_row_s);
            println!("all {} rows visible {:.1} s after apply", report.rows, report.all_rows_s);
            println!("written to {}", report::write("first-row.json", &report)?.display());
        }
    }
    Ok(())
}
