//! Tables and what is wrong with them, and how old their data is. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::conditions::Reason;
use tidemark_crds::duration;
use tidemark_crds::status::{DegradedTable, TablesStatus};

use crate::desired::pipeline::dead_letter_topic;
use crate::problem::Problem;
use crate::status::Situation;

/// Entries of `status.tables.degraded` at most.
const MOST_DEGRADED: usize = 20;

/// Counts tables and names those that do not stream.
pub fn tables(situation: &Situation<'_>) -> TablesStatus {
    let mut degraded = Vec::new();
    let known = situation.observed.clickhouse.known();
    let by_object: BTreeMap<&str, &Problem> = situation
        .problems
        .iter()
        .rev()
        .filter_map(|problem| Some((problem.object.as_deref()?, problem)))
        .collect();
    let mut streaming = 0;
    for (source, target) in situation.tables {
        let name = source.to_string();
        let entry = |state: &str, reason: Reason, message: &str| DegradedTable {
            name: name.clone(),
            state: state.to_owned(),
            reason: reason.as_str(),
            message: message.to_owned(),
        };
        if let Some(problem) = by_object.get(name.as_str()) {
            degraded.push(entry("Refused", problem.reason, &problem.message));
            continue;
        }
        let request = known.and_then(|facts| facts.ledger.reads.get(target));
        let read = known.and_then(|facts| facts.reads.get(target));
        match (request, read) {
            (None, _) => degraded.push(entry("Pending", Reason::InProgress, "it was not read yet")),
            (Some((id, request)), read)
                if read.is_none_or(|read| read.request != *id || read.state != "read") =>
            {
                let message = format!("it is being read: {}", request.reason);
                degraded.push(entry("Snapshotting", Reason::Snapshotting, &message));
            }
            _ => {
                let lost =
                    known.and_then(|facts| facts.progress.get(target)).is_some_and(|p| p.dead_letters > 0);
                if lost {
                    let message = format!(
                        "{name}: records could not be applied and went to the topic {}: read their headers, mend the \
                         cause, then set the annotation tidemark.dev/resnapshot to a new token",
                        dead_letter_topic(situation.spec)
                    );
                    degraded.push(entry("Degraded", Reason::DeadLetters, &message));
                }
                streaming += 1;
            }
        }
    }
    let views = situation.views.iter().map(String::as_str);
    let extra = situation.spec.views.extra.iter().map(|view| view.name.as_str());
    for name in views.chain(extra).collect::<BTreeSet<_>>() {
        if let Some(problem) = by_object.get(name) {
            degraded.push(DegradedTable {
                name: name.to_owned(),
                state: "Degraded".into(),
                reason: problem.reason.as_str(),
                message: problem.message.clone(),
            });
        }
    }
    degraded.truncate(MOST_DEGRADED);
    TablesStatus { total: i32::try_from(situation.tables.len()).unwrap_or(i32::MAX), streaming, degraded }
}

/// Milliseconds without a progress row after which the sinks are taken for silent.
const SILENT_MS: i64 = 10_000;
const BUCKETS: [(&str, i64); 4] = [("<1s", 1_000), ("<10s", 10_000), ("<1m", 60_000), (">1m", i64::MAX)];

/// How old the oldest table's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// `<1s`, `<10s`, `<1m` or `>1m`.
    pub bucket: &'static str,
    /// Whether the objective is met.
    pub met: bool,
}

/// Judges the oldest table's age; `None` where nothing is known. `before` is the bucket that is shown now.
pub fn freshness(situation: &Situation<'_>, before: Option<&str>) -> Option<Freshness> {
    let progress = &situation.observed.clickhouse.known()?.progress;
    let ages: Vec<i64> = situation
        .tables
        .iter()
        .map(|(_, target)| {
            let progress = progress.get(target)?;
            // How late it was when it was written; once nothing is written any more, the time since counts.
            let silent = situation.now_ms - progress.applied_at_ms > SILENT_MS;
            let until = if silent { situation.now_ms } else { progress.applied_at_ms };
            Some((until - progress.fresh_to_ms).max(0))
        })
        .collect::<Option<_>>()?;
    let age = ages.into_iter().max()?;
    let objective = duration::milliseconds(&situation.spec.freshness.rows).ok()?;
    let met = u64::try_from(age).unwrap_or(0) <= objective;
    // A value near a bound would flip the status at each look: the old bucket holds while it is nearly right.
    let old = BUCKETS.iter().position(|(name, _)| Some(*name) == before);
    if let Some(index) = old {
        let above = age < BUCKETS[index].1.saturating_mul(2);
        let below = index == 0 || age * 2 > BUCKETS[index - 1].1;
        if above && below {
            return Some(Freshness { bucket: BUCKETS[index].0, met });
        }
    }
    BUCKETS.iter().find(|(_, bound)| age < *bound).map(|(name, _)| Freshness { bucket: name, met })
}
