//! One planned write and the static table that orders all of them. Pure.

use crate::core::effect::{Effect, GrafanaEffect, Site};

/// An independent chain of work: one that cannot be reached plans nothing and does not hold up the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Database, ledger, tables and views.
    ClickHouse,
    /// Publication and slot.
    Postgres,
    /// Topics, groups.
    Kafka,
    /// The connector.
    Connect,
    /// The sink's objects.
    Kubernetes,
    /// Folder, data source, dashboards and alert rules.
    Grafana,
    /// What is left of these where the spec named another Grafana before.
    FormerGrafana,
}

/// What a step does to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// Makes something new.
    Create,
    /// Changes something in place.
    Change,
    /// Changes back what was changed by hand.
    Revert,
    /// Starts again what failed.
    Restart,
    /// Removes something and makes it anew; needs a known observation.
    Replace,
    /// Removes something; needs a known observation.
    Drop,
}

impl StepKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Revert => "revert",
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Drop => "drop",
        }
    }
}

/// Position in the static table: steps are planned, printed and run in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The target database.
    Database,
    /// Ledger, fences, progress, states and reads.
    Bookkeeping,
    /// Incarnation, epoch, identities and intents in the ledger.
    Ledger,
    /// State tables: create, alter.
    StateTable,
    /// Layouts in the ledger, after their tables.
    Layout,
    /// Fences of version 0, before the views that read them.
    FenceSeed,
    /// `_current` views.
    CurrentView,
    /// Views of the preset and of the user, with their target tables.
    View,
    /// The publication.
    Publication,
    /// Kafka topics.
    Topic,
    /// The sink's Kubernetes objects.
    Sink,
    /// The connector: configuration and state.
    Connector,
    /// Requests that tables are read.
    Read,
    /// Grafana's folder.
    Folder,
    /// Grafana's data source.
    DataSource,
    /// Dashboards.
    Dashboard,
    /// Alert rules.
    AlertRule,
    /// Answers to requests by annotation.
    Request,
    /// What was seen, for those who look later.
    History,
    /// What is no longer wanted.
    Cleanup,
    /// Deletion: stops the connector.
    StopConnector,
    /// Deletion: drains and removes the sink.
    RemoveSink,
    /// What is no longer wanted in Grafana, and its deletion.
    DropDashboard,
    /// Deletion: views.
    DropView,
    /// Deletion: state tables, the bookkeeping last.
    DropTable,
    /// Deletion: the connector's offsets.
    DeleteOffsets,
    /// Deletion: the connector.
    DeleteConnector,
    /// Deletion: the replication slot.
    DropSlot,
    /// Deletion: the publication.
    DropPublication,
    /// Deletion: the consumer groups.
    DeleteGroup,
    /// Deletion: the topics.
    DeleteTopics,
}

/// Something that a step needs to have been observed, or makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// The target database exists.
    Database,
    /// Ledger, fences, progress, states and reads exist.
    Bookkeeping,
    /// The ledger has an incarnation and an epoch.
    Incarnation,
    /// The state table of a target exists with the wanted layout.
    StateTable(String),
    /// The ledger has the wanted layout of a target.
    Layout(String),
    /// A fence of a target exists.
    Fence(String),
    /// The `_current` view of a target exists.
    CurrentView(String),
    /// A view exists and answers.
    View(String),
    /// The publication has all wanted tables.
    Publication,
    /// The source passed its preflight.
    Source,
    /// The ledger has it that a topic is the pipeline's.
    TopicNoted(String),
    /// A topic exists.
    Topic(String),
    /// The sink's Deployment exists.
    Sink,
    /// The connector exists.
    Connector,
    /// The connector is stopped.
    ConnectorStopped,
    /// The connector is gone.
    ConnectorGone,
    /// The connector's offsets are gone.
    OffsetsGone,
    /// No sink replica runs any more.
    SinkDrained,
    /// No view is left.
    ViewsGone,
    /// The slot is gone.
    SlotGone,
    /// Anything else, named.
    Other(String),
}

/// One planned write.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Where it stands in the order.
    pub stage: Stage,
    /// Whether it creates, changes, replaces or drops.
    pub kind: StepKind,
    /// One line for people, such as `create state table orders`.
    pub what: String,
    /// What has to be observed before it may run.
    pub needs: Vec<Fact>,
    /// What the next observation will find.
    pub gives: Option<Fact>,
    /// What it does.
    pub effect: Effect,
}

/// Which step it was, when it is gone: what it did is told by this and never by the words of `what`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepId {
    /// The lane that carried it out.
    pub lane: Lane,
    /// Where it stood in the order.
    pub stage: Stage,
    /// What it did to what was there.
    pub kind: StepKind,
    /// One line for people; two steps of one plan have two.
    pub what: String,
}

impl Step {
    /// Which step it is.
    pub fn id(&self) -> StepId {
        StepId { lane: self.lane(), stage: self.stage, kind: self.kind, what: self.what.clone() }
    }

    /// The lane that carries it out: that of its effect's system.
    pub fn lane(&self) -> Lane {
        match &self.effect {
            Effect::ClickHouse(_) | Effect::Ledger { .. } | Effect::Fence { .. } => Lane::ClickHouse,
            Effect::Postgres(_) => Lane::Postgres,
            Effect::Kafka(_) => Lane::Kafka,
            Effect::Connect(_) => Lane::Connect,
            Effect::Kubernetes(_) => Lane::Kubernetes,
            Effect::Grafana(GrafanaEffect { site: Site::Current, .. }) => Lane::Grafana,
            Effect::Grafana(GrafanaEffect { site: Site::Former, .. }) => Lane::FormerGrafana,
        }
    }
}
