//! What the operator takes, and what the systems feel of it, as counters at one moment. I/O; the histogram is pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::bench::usage::{cpu_time, memory, peak_memory, reset_peak_memory};
use crate::resources::metric_lines;
use crate::stack::{Role, Stack};

use super::fleet::DATABASE;

const SECONDS: &str = "controller_runtime_reconcile_time_seconds_bucket";
const MIB: f64 = 1_048_576.0;

/// Where figures come from.
#[derive(Debug)]
pub(super) struct Figures<'a> {
    pub(super) stack: &'a Stack,
    pub(super) listen: SocketAddr,
    pub(super) process: u32,
}

/// Counters at one moment.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) at: Instant,
    pub(super) cpu: Duration,
    pub(super) rss_mib: f64,
    pub(super) peak_mib: f64,
    pub(super) reconciles: Histogram,
    pub(super) sessions: f64,
    pub(super) statements: f64,
    pub(super) queries: f64,
}

/// Bounds of buckets, and how many were at most as great.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram(Vec<(f64, f64)>);

impl Figures<'_> {
    /// Lets the peak of the memory begin anew.
    pub(super) fn reset(&self) -> anyhow::Result<()> {
        reset_peak_memory(self.process)
    }

    pub(super) async fn take(&self) -> anyhow::Result<Taken> {
        let number = |text: &str| text.trim().parse::<f64>().with_context(|| format!("{text:?} is a number"));
        let postgres = |sql: String| async move {
            let rows = self.stack.postgres().query(Role::Superuser, DATABASE, &sql).await?;
            number(rows.first().and_then(|row| row.first()?.as_deref()).unwrap_or("0"))
        };
        let bytes = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) * 1024.0 / MIB;
        let role = Role::Tidemark.name();
        let of_role = format!(
            "FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = '{role}'"
        );
        let looks =
            format!("SELECT coalesce(sum(s.calls), 0) {of_role} AND s.query LIKE '%pg_control_system%'");
        let queries = self.stack.clickhouse().query("SELECT value FROM system.events WHERE event = 'Query'");
        Ok(Taken {
            at: Instant::now(),
            cpu: cpu_time(self.process)?,
            rss_mib: bytes(memory(self.process)?),
            peak_mib: bytes(peak_memory(self.process)?),
            reconciles: Histogram::read(&metric_lines(self.listen, SECONDS).await?),
            sessions: postgres(looks).await?,
            statements: postgres(format!("SELECT coalesce(sum(s.calls), 0) {of_role}")).await?,
            queries: number(&queries.await?)?,
        })
    }
}

impl Histogram {
    fn read(lines: &[String]) -> Self {
        let bucket = |line: &String| {
            let (name, count) = line.rsplit_once(' ')?;
            let bound = name.split_once("le=\"")?.1.split_once('"')?.0;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, count.parse().ok()?))
        };
        Self(lines.iter().filter_map(bucket).collect())
    }

    pub(super) fn minus(&self, before: &Self) -> Self {
        let count = |bound: f64| before.0.iter().find(|(other, _)| other.total_cmp(&bound).is_eq());
        let less = |(bound, now): &(f64, f64)| (*bound, now - count(*bound).map_or(0.0, |(_, count)| *count));
        Self(self.0.iter().map(less).collect())
    }

    pub(super) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// The bound of the bucket that the quantile lies in.
    pub(super) fn quantile(&self, quantile: f64) -> f64 {
        let wanted = self.count() * quantile;
        self.0.iter().find(|(_, count)| *count >= wanted).map_or(0.0, |(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket_of_what_came_since() {
        let lines = |counts: [u32; 3]| -> Vec<String> {
            let bounds = ["0.1", "0.2", "+Inf"];
            let line = |(bound, count): (&str, u32)| format!("{SECONDS}{{le=\"{bound}\"}} {count}");
            bounds.into_iter().zip(counts).map(line).collect()
        };
        let (before, after) = (Histogram::read(&lines([5, 5, 5])), Histogram::read(&lines([104, 105, 105])));
        let since = after.minus(&before);
        assert!((since.count() - 100.0).abs() < f64::EPSILON);
        assert!((since.quantile(0.99) - 0.1).abs() < f64::EPSILON);
        assert!((since.quantile(0.995) - 0.2).abs() < f64::EPSILON);
    }
}
