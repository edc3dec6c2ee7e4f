//! Events for people: one for each condition that flips, and for what a deletion leaves behind. I/O.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tidemark_crds::status::TablesStatus;

use crate::core::status::cut;
use crate::core::table_status::{MOST_DEGRADED, TroubleState};
use crate::edge::kubernetes::objects::DEADLINE;

/// Longest note of an event, characters.
const LONGEST_NOTE: usize = 1000;

/// Writes Events; what cannot be written is logged and forgotten, since nothing depends on it.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// An event before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody has to look.
    pub warning: bool,
    /// Reason, as in the condition.
    pub reason: String,
    /// What happened.
    pub text: String,
}

/// Finds what is worth an event: conditions whose status or reason changed, `Reconciling` and `Ready` apart,
/// since they follow from the others.
pub fn changes(before: &[Condition], after: &[Condition]) -> Vec<Note> {
    after
        .iter()
        .filter(|condition| !matches!(condition.type_.as_str(), "Reconciling" | "Ready"))
        .filter_map(|condition| {
            let old = before.iter().find(|old| old.type_ == condition.type_);
            let was = old.map(|old| (old.status.as_str(), old.reason.as_str()));
            if was == Some((condition.status.as_str(), condition.reason.as_str())) {
                return None;
            }
            let good = if condition.type_ == "Stalled" { "False" } else { "True" };
            let fine = condition.status == good;
            if old.is_none() && fine {
                return None;
            }
            // Work under way is no reason to look.
            let passing =
                matches!(condition.reason.as_str(), "InProgress" | "Reading" | "Waiting" | "NotObserved");
            let text = if condition.message.is_empty() {
                format!("{} is {}", condition.type_, condition.status)
            } else {
                format!("{} is {}: {}", condition.type_, condition.status, condition.message)
            };
            Some(Note { warning: !fine && !passing, reason: condition.reason.clone(), text })
        })
        .collect()
}

/// Finds what is worth an event among tables: one whose state or reason changed, and one that streams again.
pub fn table_changes(before: &TablesStatus, after: &TablesStatus) -> Vec<Note> {
    let passing = |state: &str, reason: &str| {
        [TroubleState::Reading, TroubleState::Pending].iter().any(|quiet| quiet.as_str() == state)
            && reason != "ReadFailed"
    };
    let was = |name: &str| before.degraded.iter().find(|table| table.name == name);
    let worse = after.degraded.iter().filter(|table| {
        was(&table.name).is_none_or(|old| (&old.state, &old.reason) != (&table.state, &table.reason))
    });
    let mut notes: Vec<Note> = worse
        .map(|table| Note {
            warning: !passing(&table.state, &table.reason),
            reason: table.reason.clone(),
            text: format!("table {} is {}: {}", table.name, table.state, table.message),
        })
        .collect();
    // Of a list that was cut nobody knows what is missing, and of a table that was taken out of the spec nobody asks.
    if after.degraded.len() < MOST_DEGRADED && before.total <= after.total {
        let better =
            before.degraded.iter().filter(|old| !after.degraded.iter().any(|table| table.name == old.name));
        notes.extend(better.map(|old| Note {
            warning: false,
            reason: "AsDesired".into(),
            text: format!("table {} is as it should be again: it was {}", old.name, old.state),
        }));
    }
    notes
}

impl Events {
    /// Builds the writer.
    pub fn new(client: kube::Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: "tidemark.dev/operator".into(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Writes an event about an object; equal ones are counted up instead.
    pub async fn publish(&self, object: &ObjectReference, note: &Note) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.clone(),
            note: Some(cut(&note.text, LONGEST_NOTE)),
            action: "Reconcile".into(),
            secondary: None,
        };
        match tokio::time::timeout(DEADLINE, self.recorder.publish(&event, object)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "event not written"),
            Err(_) => tracing::debug!("event not written in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            ),
        }
    }

    #[test]
    fn a_flip_is_told_once_and_what_stays_is_not() {
        let before =
            [condition("SourceReady", "True", "AsDesired"), condition("Stalled", "False", "AsDesired")];
        let after =
            [condition("SourceReady", "False", "SlotLost"), condition("Stalled", "False", "AsDesired")];
        let notes = changes(&before, &after);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].warning && notes[0].reason == "SlotLost");
        assert!(changes(&after, &after).is_empty());
    }

    #[test]
    fn a_table_that_changes_its_state_is_named_once_each_way() {
        use tidemark_crds::status::DegradedTable;
        let of = |state: &str, reason: &str| TablesStatus {
            total: 2,
            degraded: vec![DegradedTable {
                name: "public.orders".into(),
                state: state.into(),
                reason: reason.into(),
                message: "why".into(),
            }],
            ..TablesStatus::default()
        };
        let fine = TablesStatus { total: 2, ..TablesStatus::default() };
        let told = |before: &TablesStatus, after: &TablesStatus| {
            let notes = table_changes(before, after);
            notes.into_iter().map(|note| (note.warning, note.reason, note.text)).collect::<Vec<_>>()
        };
        let (stopped, reading) = (of("Stopped", "TableStopped"), of("Reading", "Reading"));
        let warning = (true, "TableStopped".into(), "table public.orders is Stopped: why".into());
        assert_eq!(told(&fine, &stopped), [warning]);
        assert_eq!(told(&stopped, &stopped), []);
        assert!(!told(&stopped, &reading)[0].0, "work under way");
        assert!(told(&reading, &of("Reading", "ReadFailed"))[0].0);
        let again = "table public.orders is as it should be again: it was Stopped";
        assert_eq!(told(&stopped, &fine), [(false, "AsDesired".into(), again.into())]);
        assert_eq!(told(&stopped, &TablesStatus::default()), [], "it is no longer asked for");
    }
}
