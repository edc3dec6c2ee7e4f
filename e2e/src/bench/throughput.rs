//! Sink throughput: the same topic into the same table by ClickHouse's Kafka engine and by the sink, in turn,
//! each on a freshly started ClickHouse, each checked for the right end state. I/O.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use tidemark_crds::names::{PipelineName, Topics};
use tidemark_runtime::clickhouse::ClickHouse;

use super::events::{Expected, PARTITIONS, Shape, Workload};
use super::kafka_engine::{self, Extraction};
use super::sink_process::{Assignment, SinkProcess};
use super::statistics::median;
use super::target::{self, Visible};
use super::topic::{self, ConsumeAndCount};
use super::{bookkeeping, usage};
use crate::stack::{Component, Part, Stack, User};

/// Debezium's `topic.prefix` of the measurement.
const PREFIX: &str = "bench";
/// A rate of 2,000 events a second is far below anything of use.
const SLOWEST_RATE: u64 = 2_000;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Events and keys.
    pub workload: Workload,
    /// Runs of each contender.
    pub runs: u32,
    /// Who takes part, in turn.
    pub contenders: Vec<Contender>,
}

/// Who moves the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// ClickHouse's own Kafka engine.
    KafkaEngine(Extraction),
    /// `tidemark-sink`, one replica with the defaults of the resource.
    Sink,
}

impl Contender {
    /// Returns the name that stands in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::KafkaEngine(Extraction::Image) => "clickhouse-kafka-engine",
            Self::KafkaEngine(Extraction::Envelope) => "clickhouse-kafka-engine-envelope",
            Self::Sink => "tidemark-sink",
        }
    }
}

/// Figures of one run, or the medians of several.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Who moved the events.
    pub contender: &'static str,
    /// Events a second, from the start until the last event of every partition was visible.
    pub events_per_s: f64,
    /// The same without the time until the first row.
    pub events_per_s_after_first_row: f64,
    /// Seconds until the first row.
    pub first_row_s: f64,
    /// CPU seconds of the sink for a million events; 0 for the engine, which is part of ClickHouse.
    pub sink_cpu_s_per_million: f64,
    /// CPU seconds of ClickHouse for a million events, with all merges until it was quiet.
    pub clickhouse_cpu_s_per_million: f64,
    /// The same until the last event was visible only.
    pub clickhouse_cpu_s_per_million_without_last_merges: f64,
    /// Both together.
    pub total_cpu_s_per_million: f64,
    /// Highest resident memory of the sink; 0 for the engine.
    pub sink_peak_rss_mib: f64,
    /// Highest resident memory of ClickHouse.
    pub clickhouse_peak_rss_mib: f64,
    /// Load average of the machine when the run began.
    pub load_before: f64,
}

/// The report of `target/reports/throughput.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Events in the topic.
    pub events: u64,
    /// Keys that they change.
    pub keys: u64,
    /// Bytes of an event's value, on average.
    pub average_bytes: u64,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Every run, in the order in which they ran.
    pub runs: Vec<Figures>,
    /// The median of each figure, one entry a contender.
    pub medians: Vec<Figures>,
    /// The sink's medians as multiples of the Kafka engine's.
    pub ratio: Option<Ratio>,
    /// Reading the topic without decoding it.
    pub consume_and_count: ConsumeAndCount,
}

/// The sink's medians as multiples of the Kafka engine's.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ratio {
    /// Of the events a second: above 1 is faster.
    pub events_per_s: f64,
    /// Of the CPU seconds of all programs: below 1 is cheaper.
    pub total_cpu: f64,
}

/// Fills the topic, lets the contenders run in turn and returns all figures; `tell` is told what happens.
///
/// Fails if a contender does not come to the end or leaves a wrong state.
pub async fn measure(plan: &Plan, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let stack = Stack::start(&[Part::Kafka, Part::Clickhouse]).await?;
    let workload = plan.workload;
    let (events_topic, expected) = filled(&stack, PREFIX, workload, &tell).await?;
    let (config, name) = (stack.kafka().client_config(), events_topic.clone());
    let consume_and_count =
        tokio::task::spawn_blocking(move || topic::consume_and_count(&config, &name, workload.events))
            .await??;

    let bench = Bench { stack: &stack, prefix: PREFIX, topic: &events_topic, workload, expected: &expected };
    let mut runs = Vec::new();
    for run in 1..=plan.runs {
        for &contender in &plan.contenders {
            let figures = bench
                .run(contender, run)
                .await
                .with_context(|| format!("run {run} of {}", contender.name()))?;
            tell(&format!("run {run}: {}", line(&figures)));
            runs.push(figures);
        }
    }
    if plan.contenders.contains(&Contender::Sink) {
        lacking(&stack, workload, &tell).await.context("events that lack something")?;
    }
    let medians: Vec<Figures> =
        plan.contenders.iter().filter_map(|contender| medians(contender.name(), &runs)).collect();
    Ok(Report {
        events: workload.events,
        keys: workload.keys,
        average_bytes: expected.value_bytes / workload.events.max(1),
        partitions: PARTITIONS,
        ratio: ratio(&medians),
        runs,
        medians,
        consume_and_count,
    })
}

/// Makes the topics of a prefix and fills that of the events; returns its name and what the events lead to.
async fn filled(
    stack: &Stack,
    prefix: &str,
    workload: Workload,
    tell: impl Fn(&str),
) -> anyhow::Result<(String, Expected)> {
    let topics = Topics { prefix };
    let events_topic = topics.table(&target::source());
    stack.kafka().create_topic(&events_topic, PARTITIONS).await?;
    stack.kafka().create_topic(&topics.heartbeat(), 1).await?;
    stack.kafka().create_topic(&topics.dead_letter(), 1).await?;
    let begin = Instant::now();
    let (config, name) = (stack.kafka().client_config(), events_topic.clone());
    let expected = tokio::task::spawn_blocking(move || topic::fill(&config, &name, workload)).await??;
    tell(&format!(
        "{} events ({:?}, {} B on average) produced in {:.1} s; end state: {} rows",
        workload.events,
        expected.operations,
        expected.value_bytes / workload.events.max(1),
        begin.elapsed().as_secs_f64(),
        expected.rows
    ));
    Ok((events_topic, expected))
}

/// Lets the sink apply a tenth of the events once more, as events that lack something, for their end state alone.
async fn lacking(stack: &Stack, workload: Workload, tell: impl Fn(&str)) -> anyhow::Result<()> {
    const LACKING: &str = "lacking";
    let few = |number: u64| (number / 10).max(1);
    let workload = Workload { events: few(workload.events), keys: few(workload.keys), shape: Shape::Lacking };
    let (topic, expected) = filled(stack, LACKING, workload, &tell).await?;
    let bench = Bench { stack, prefix: LACKING, topic: &topic, workload, expected: &expected };
    let figures = bench.run(Contender::Sink, 0).await?;
    tell(&format!("events that lack something, every column as it should be: {}", line(&figures)));
    Ok(())
}

struct Bench<'a> {
    stack: &'a Stack,
    prefix: &'a str,
    topic: &'a str,
    workload: Workload,
    expected: &'a Expected,
}

/// What a contender used until its last event was visible and, of ClickHouse, until its merges had ended.
struct Used {
    visible: Visible,
    clickhouse_until_visible: Duration,
    clickhouse: Duration,
    sink: Duration,
    sink_peak: u64,
    clickhouse_peak: u64,
    load_before: f64,
}

impl Bench<'_> {
    async fn run(&self, contender: Contender, run: u32) -> anyhow::Result<Figures> {
        let clickhouse = self.stack.clickhouse();
        // Nobody inherits caches, memory or merges of the run before.
        clickhouse.restart().await?;
        let name = PipelineName::new("bench", format!("{}-{run}", contender.name()));
        let assignment = Assignment {
            source: None,
            database: name.name.replace('-', "_"),
            name,
            topic_prefix: self.prefix.into(),
            routes: vec![(target::source(), target::TABLE.into())],
        };
        let client = target::client(clickhouse, User::Default)?;
        bookkeeping::prepare(
            &client,
            &assignment.database,
            &assignment.name,
            &target::layout(self.workload.shape),
        )
        .await?;
        target::wait_until_quiet(&client, &assignment.database).await?;
        let used = match contender {
            Contender::KafkaEngine(extraction) => {
                self.engine(&client, &assignment.database, extraction).await
            }
            Contender::Sink => self.sink(&client, &assignment).await,
        }?;
        target::check(&client, &assignment.database, self.expected).await?;
        let drop = format!("DROP DATABASE {} SYNC", tidemark_crds::quote::ident(&assignment.database));
        client.execute(&drop).await?;
        self.figures(contender, &used)
    }

    async fn engine(
        &self,
        client: &ClickHouse,
        database: &str,
        extraction: Extraction,
    ) -> anyhow::Result<Used> {
        let brokers = self.stack.kafka().bootstrap_servers();
        let meter = Meter::start(self.stack)?;
        kafka_engine::start(client, database, &brokers, self.topic, extraction).await?;
        let visible = self.visible(client, database, target::position, meter.start).await?;
        let until_visible = meter.clickhouse()?;
        let used = meter.finish(client, database, visible, until_visible, None).await?;
        // Closing its consumers can take ClickHouse seconds of CPU time, which are nobody's events.
        kafka_engine::stop(client, database).await?;
        Ok(used)
    }

    async fn sink(&self, client: &ClickHouse, assignment: &Assignment) -> anyhow::Result<Used> {
        let meter = Meter::start(self.stack)?;
        let sink = SinkProcess::start(self.stack, assignment)?;
        let visible = self.visible(client, &assignment.database, target::sink_version, meter.start).await;
        let visible = visible.with_context(|| format!("the sink's log ends with\n{}", sink.log_tail()))?;
        let until_visible = meter.clickhouse()?;
        let used = meter.finish(client, &assignment.database, visible, until_visible, Some(&sink)).await?;
        sink.stop().await?;
        Ok(used)
    }

    async fn visible(
        &self,
        client: &ClickHouse,
        database: &str,
        version_of: target::VersionOf,
        start: Instant,
    ) -> anyhow::Result<Visible> {
        let deadline = Duration::from_secs(60 + self.workload.events / SLOWEST_RATE);
        target::wait_until_complete(client, database, self.expected, version_of, start, deadline).await
    }

    fn figures(&self, contender: Contender, used: &Used) -> anyhow::Result<Figures> {
        let events = f64::from(u32::try_from(self.workload.events).context("more events than a u32 holds")?);
        let per_million = |time: Duration| time.as_secs_f64() / events * 1e6;
        let after_first = used.visible.last.saturating_sub(used.visible.first).as_secs_f64();
        Ok(Figures {
            contender: contender.name(),
            events_per_s: events / used.visible.last.as_secs_f64(),
            // All may have come in one block.
            events_per_s_after_first_row: if after_first > 0.0 { events / after_first } else { 0.0 },
            first_row_s: used.visible.first.as_secs_f64(),
            sink_cpu_s_per_million: per_million(used.sink),
            clickhouse_cpu_s_per_million: per_million(used.clickhouse),
            clickhouse_cpu_s_per_million_without_last_merges: per_million(used.clickhouse_until_visible),
            total_cpu_s_per_million: per_million(used.sink + used.clickhouse),
            sink_peak_rss_mib: mebibytes(used.sink_peak),
            clickhouse_peak_rss_mib: mebibytes(used.clickhouse_peak),
            load_before: used.load_before,
        })
    }
}

/// Reads ClickHouse's use of the machine from a moment on.
struct Meter {
    process: u32,
    before: Duration,
    load_before: f64,
    start: Instant,
}

impl Meter {
    fn start(stack: &Stack) -> anyhow::Result<Self> {
        let process = stack.clickhouse().process().id().context("ClickHouse is not running")?;
        usage::reset_peak_memory(process)?;
        let (before, load_before) = (usage::cpu_time(process)?, usage::load_average()?);
        Ok(Self { process, before, load_before, start: Instant::now() })
    }

    fn clickhouse(&self) -> anyhow::Result<Duration> {
        Ok(usage::cpu_time(self.process)?.saturating_sub(self.before))
    }

    async fn finish(
        &self,
        client: &ClickHouse,
        database: &str,
        visible: Visible,
        clickhouse_until_visible: Duration,
        sink: Option<&SinkProcess>,
    ) -> anyhow::Result<Used> {
        target::wait_until_quiet(client, database).await?;
        let (sink, sink_peak) = sink.map(SinkProcess::usage).transpose()?.unwrap_or_default();
        Ok(Used {
            visible,
            clickhouse_until_visible,
            clickhouse: self.clickhouse()?,
            sink,
            sink_peak,
            clickhouse_peak: usage::peak_memory(self.process)?,
            load_before: self.load_before,
        })
    }
}

/// Returns the report as text for people.
pub fn table(report: &Report) -> String {
    let mut text = format!(
        "{} events of {} B on average, {} keys, {} partitions\n",
        report.events, report.average_bytes, report.keys, report.partitions
    );
    let all =
        report.runs.iter().map(|run| ("run", run)).chain(report.medians.iter().map(|run| ("median", run)));
    for (kind, figures) in all {
        let _ = writeln!(text, "{kind:<7} {}", line(figures));
    }
    if let Some(ratio) = report.ratio {
        let _ = writeln!(
            text,
            "sink / Kafka engine: {:.2} x the events a second, {:.2} x the CPU seconds",
            ratio.events_per_s, ratio.total_cpu
        );
    }
    let bound = &report.consume_and_count;
    let _ = writeln!(
        text,
        "bound: consume and count {:.0} events/s, {:.2} CPU s a million",
        bound.events_per_s, bound.cpu_s_per_million
    );
    text
}

fn line(figures: &Figures) -> String {
    format!(
        "{:<32} {:>8.0} events/s ({:>8.0} after the first row at {:>4.1} s)  CPU s a million: sink {:>5.2} + \
         ClickHouse {:>5.2} = {:>5.2}  peak RSS MiB: sink {:>4.0}, ClickHouse {:>5.0}  (load {:.1})",
        figures.contender,
        figures.events_per_s,
        figures.events_per_s_after_first_row,
        figures.first_row_s,
        figures.sink_cpu_s_per_million,
        figures.clickhouse_cpu_s_per_million,
        figures.total_cpu_s_per_million,
        figures.sink_peak_rss_mib,
        figures.clickhouse_peak_rss_mib,
        figures.load_before
    )
}

/// Returns the median of each figure over a contender's runs; `None` if it had none.
fn medians(contender: &'static str, runs: &[Figures]) -> Option<Figures> {
    let own: Vec<&Figures> = runs.iter().filter(|run| run.contender == contender).collect();
    let of = |figure: fn(&Figures) -> f64| median(&own.iter().map(|run| figure(run)).collect::<Vec<_>>());
    (!own.is_empty()).then(|| Figures {
        contender,
        events_per_s: of(|run| run.events_per_s),
        events_per_s_after_first_row: of(|run| run.events_per_s_after_first_row),
        first_row_s: of(|run| run.first_row_s),
        sink_cpu_s_per_million: of(|run| run.sink_cpu_s_per_million),
        clickhouse_cpu_s_per_million: of(|run| run.clickhouse_cpu_s_per_million),
        clickhouse_cpu_s_per_million_without_last_merges: of(|run| {
            run.clickhouse_cpu_s_per_million_without_last_merges
        }),
        total_cpu_s_per_million: of(|run| run.total_cpu_s_per_million),
        sink_peak_rss_mib: of(|run| run.sink_peak_rss_mib),
        clickhouse_peak_rss_mib: of(|run| run.clickhouse_peak_rss_mib),
        load_before: of(|run| run.load_before),
    })
}

/// Returns the sink's medians as multiples of the cheapest Kafka engine's.
fn ratio(medians: &[Figures]) -> Option<Ratio> {
    let sink = medians.iter().find(|figures| figures.contender == Contender::Sink.name())?;
    let engine = medians
        .iter()
        .filter(|figures| figures.contender != Contender::Sink.name())
        .min_by(|a, b| a.total_cpu_s_per_million.total_cmp(&b.total_cpu_s_per_million))?;
    Some(Ratio {
        events_per_s: sink.events_per_s / engine.events_per_s,
        total_cpu: sink.total_cpu_s_per_million / engine.total_cpu_s_per_million,
    })
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
}
