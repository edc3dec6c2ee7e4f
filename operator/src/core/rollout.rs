//! How far Kubernetes is with the sink's pods. Pure.

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};

/// Longest text of Kubernetes that is passed on, characters.
const LONGEST: usize = 256;

/// The sink's Deployment as its controller sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Replicas that exist, of any template.
    pub replicas: i32,
    /// Available replicas, of any template: the old ones stay until new ones are ready.
    pub available: i32,
    /// Replicas of the newest template.
    pub updated: i32,
    /// Why Kubernetes has given up, or cannot make the pods.
    pub failure: Option<String>,
}

impl Rollout {
    /// Reads a Deployment's status. One that its controller has not judged since the last change says nothing yet.
    pub fn of(status: &DeploymentStatus, generation: Option<i64>) -> Self {
        let replicas = status.replicas.unwrap_or(0);
        if status.observed_generation < generation {
            return Self { replicas, ..Self::default() };
        }
        Self {
            replicas,
            available: status.available_replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            failure: status.conditions.iter().flatten().find_map(failure),
        }
    }

    /// Whether all replicas that are wanted are of the newest template and available, and no others are left.
    pub fn is_complete(&self, wanted: i32) -> bool {
        self.updated >= wanted && self.available >= wanted && self.replicas <= self.updated
    }

    /// Whether a later look may find it further.
    pub fn is_under_way(&self) -> bool {
        self.failure.is_none() && !self.is_complete(self.replicas)
    }
}

fn failure(condition: &DeploymentCondition) -> Option<String> {
    let reason = condition.reason.as_deref().unwrap_or_default();
    let failed = match condition.type_.as_str() {
        "Progressing" => condition.status == "False",
        "ReplicaFailure" => condition.status == "True",
        _ => false,
    };
    let text = condition.message.as_deref().unwrap_or_default();
    failed.then(|| format!("{reason}: {text}").chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: &str, reason: &str) -> DeploymentCondition {
        DeploymentCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some("ReplicaSet \"shop-sink-1\" has timed out progressing.".into()),
            ..DeploymentCondition::default()
        }
    }

    fn status(replicas: i32, available: i32, updated: i32) -> DeploymentStatus {
        DeploymentStatus {
            observed_generation: Some(7),
            replicas: Some(replicas),
            available_replicas: Some(available),
            updated_replicas: Some(updated),
            ..DeploymentStatus::default()
        }
    }

    #[test]
    fn old_pods_that_are_available_are_no_rollout() {
        for (what, replicas, available, updated, complete) in [
            ("settled", 2, 2, 2, true),
            ("the new pod does not start, and the old ones stay", 3, 2, 1, false),
            ("the last old pod ends", 3, 3, 2, false),
            ("new pods are there and not ready", 2, 1, 2, false),
            ("scaled to zero", 0, 0, 0, false),
        ] {
            let rollout = Rollout::of(&status(replicas, available, updated), Some(7));
            assert_eq!(rollout.is_complete(2), complete, "{what}");
        }
        assert!(Rollout::of(&status(0, 0, 0), Some(7)).is_complete(0));
        let unseen = Rollout::of(&status(2, 2, 2), Some(8));
        assert!(!unseen.is_complete(2) && unseen.is_under_way(), "of the template before");
    }

    #[test]
    fn kubernetes_own_word_ends_the_waiting() {
        for (told, failed) in [
            (condition("Progressing", "False", "ProgressDeadlineExceeded"), true),
            (condition("ReplicaFailure", "True", "FailedCreate"), true),
            (condition("Progressing", "True", "ReplicaSetUpdated"), false),
            (condition("Available", "False", "MinimumReplicasUnavailable"), false),
        ] {
            let what = format!("{told:?}");
            let status = DeploymentStatus { conditions: Some(vec![told]), ..status(3, 2, 1) };
            let rollout = Rollout::of(&status, Some(7));
            assert_eq!((rollout.failure.is_some(), rollout.is_under_way()), (failed, !failed), "{what}");
            assert_eq!(Rollout::of(&status, Some(8)).failure, None, "of the template before");
        }
    }
}
