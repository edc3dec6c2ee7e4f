//! How far tables are compared with their source, and what that says of them. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidemark_crds::conditions::{ConditionType, Judgement, Reason, Status};
use tidemark_crds::duration;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::status::VerifiedTable;

use crate::core::cdc::table::is_read;
use crate::core::facts::VerificationFacts;
use crate::core::status::Situation;

/// Tables that a message names at most.
const MOST_NAMES: usize = 3;

/// How far each table is compared; one of which no sink has said anything is not among them.
pub fn tables(situation: &Situation<'_>) -> Vec<VerifiedTable> {
    let Some(facts) = situation.observed.clickhouse.known() else { return Vec::new() };
    let known = situation.tables.iter().filter_map(|(source, target)| {
        let found = facts.verification.get(target)?;
        Some(VerifiedTable {
            name: source.to_string(),
            coverage: tenths(found.per_mille),
            oldest: moment(found.from_ms),
            differences: i64::try_from(found.differences).unwrap_or(i64::MAX),
            repaired: i64::try_from(found.repaired).unwrap_or(i64::MAX),
        })
    });
    known.collect()
}

/// `0.0` to `1.0`: a finer number would be written at each look.
fn tenths(per_mille: u16) -> String {
    format!("{}.{}", per_mille / 1000, per_mille / 100 % 10)
}

fn moment(ms: i64) -> Option<Time> {
    let seconds = Some(ms / 1000).filter(|seconds| *seconds > 0)?;
    jiff::Timestamp::from_second(seconds).ok().map(Time)
}

/// What the comparisons say of the pipeline.
pub fn judge(situation: &Situation<'_>) -> Judgement {
    let of = |status, reason, message: String| Judgement {
        r#type: ConditionType::Verified,
        status,
        reason,
        message,
    };
    let spec = &situation.spec.verification;
    let Some(facts) = situation.observed.clickhouse.known() else {
        return of(Status::Unknown, Reason::NotObserved, "clickhouse gives no answer".into());
    };
    let found = |target: &String| facts.verification.get(target);
    let of_tables = |wanted: &dyn Fn(&String) -> bool| -> Vec<&SourceTable> {
        situation.tables.iter().filter(|(_, target)| wanted(target)).map(|(source, _)| source).collect()
    };
    let differ = of_tables(&|target| found(target).is_some_and(|found| found.open > 0));
    if !differ.is_empty() {
        let message = format!(
            "rows differ from their source and could not be repaired: {}: _tidemark_differences has their keys; a table is \
             read again by a new token in the annotation tidemark.dev/resnapshot",
            names(&differ)
        );
        return of(Status::False, Reason::Differs, message);
    }
    if !spec.enabled {
        let message = "spec.verification.enabled is false; `tidemark verify` compares tables now".into();
        return of(Status::True, Reason::NotConfigured, message);
    }
    if situation.spec.sink.replicas == 0 {
        let message = "spec.sink.replicas is 0: nothing is compared".into();
        return of(Status::Unknown, Reason::Waiting, message);
    }
    let most = duration::milliseconds(&spec.max_age).ok().and_then(|ms| i64::try_from(ms).ok());
    let since = situation.now_ms.saturating_sub(most.unwrap_or(i64::MAX));
    let is_late = |found: &VerificationFacts| match found.from_ms {
        0 => found.began_ms > 0 && found.began_ms < since,
        from => from < since,
    };
    let late = of_tables(&|target| found(target).is_some_and(is_late));
    if !late.is_empty() {
        let why = situation.tables.iter().filter(|(source, _)| late.contains(&source));
        let why = why.filter_map(|(_, target)| found(target)).find(|found| !found.error.is_empty());
        let why = why.map_or_else(String::new, |found| format!(": {}", found.error));
        let message = format!(
            "no full comparison with the source within spec.verification.maxAge ({}): {}{why}: raise \
             spec.verification.rowsPerSecond, or mend what keeps it",
            spec.max_age,
            names(&late)
        );
        return of(Status::False, Reason::Unverified, message);
    }
    let is_refused = |source: &SourceTable| {
        let name = source.to_string();
        situation.problems.iter().any(|problem| problem.object.as_deref() == Some(name.as_str()))
    };
    let refused: Vec<&SourceTable> =
        situation.tables.iter().map(|(source, _)| source).filter(|source| is_refused(source)).collect();
    let first = of_tables(&|target| found(target).is_none_or(|found| found.from_ms == 0));
    let first: Vec<&SourceTable> = first.into_iter().filter(|source| !refused.contains(source)).collect();
    if !first.is_empty() {
        let unread = situation
            .tables
            .iter()
            .any(|(source, target)| first.contains(&source) && !is_read(facts, target));
        let reason = if unread { Reason::Waiting } else { Reason::InProgress };
        let message = format!("not compared with the source as a whole yet: {}", names(&first));
        return of(Status::Unknown, reason, message);
    }
    if !refused.is_empty() {
        let message = format!("left out, since the tables are refused: {}", names(&refused));
        return of(Status::True, Reason::LeftOut, message);
    }
    of(Status::True, Reason::AsDesired, String::new())
}

fn names(tables: &[&SourceTable]) -> String {
    let named: Vec<String> = tables.iter().take(MOST_NAMES).map(ToString::to_string).collect();
    let more = tables.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}
