//! What stands in the way: one finding about the whole pipeline, a table or a view. Pure.

use tidemark_crds::conditions::{ConditionType, Reason};

/// A finding that keeps something from being as it should; it degrades its object and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The condition that it makes false.
    pub condition: ConditionType,
    /// Name in the spec of the table or view; absent: the whole.
    pub object: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What is wrong and what to do next.
    pub message: String,
}

/// A difference that is known and left as it is: nothing stands still for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The condition that tells of it.
    pub condition: ConditionType,
    /// What differs, why it is left, and what would change it.
    pub message: String,
    /// Whether the spec asks for it and it is not done.
    pub is_open: bool,
}

impl Left {
    /// What others decided.
    pub fn settled(condition: ConditionType, message: impl Into<String>) -> Self {
        Self { condition, message: message.into(), is_open: false }
    }
}

impl Problem {
    /// A finding about the whole.
    pub fn of_all(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, object: None, reason, message: message.into() }
    }

    /// A finding about one table or view.
    pub fn of(
        condition: ConditionType,
        object: impl Into<String>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { condition, object: Some(object.into()), reason, message: message.into() }
    }

    /// Whether time cannot mend it: a person has to change the spec, the source or an object of another owner.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self.reason,
            Reason::InvalidSpec
                | Reason::SlotLost
                | Reason::IdentityChanged
                | Reason::Conflict
                | Reason::NoPrimaryKey
                | Reason::UnsafePartitionBy
                | Reason::TypeConflict
                | Reason::InvalidView
                | Reason::InvalidDashboard
        )
    }
}
