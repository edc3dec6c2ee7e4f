//! Events for people: one for each condition that flips, and for what a deletion leaves behind. I/O.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::objects::DEADLINE;

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
            let passing = matches!(
                condition.reason.as_str(),
                "InProgress" | "Snapshotting" | "Waiting" | "NotObserved"
            );
            let text = if condition.message.is_empty() {
                format!("{} is {}", condition.type_, condition.status)
            } else {
                format!("{} is {}: {}", condition.type_, condition.status, condition.message)
            };
            Some(Note { warning: !fine && !passing, reason: condition.reason.clone(), text })
        })
        .collect()
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
            note: Some(note.text.chars().take(LONGEST_NOTE).collect()),
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
}
