//! The plan: every step in the order of the one static table, which of them may run now, which wait. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tidemark_crds::secrets::{is_placeholder, is_secret};

use crate::core::assume::is_given;
use crate::core::desired::connector::HASH_KEY;
use crate::core::effect::{ClickHouseEffect, ConnectEffect, Effect, KafkaEffect, KubernetesEffect};
use crate::core::facts::{Observation, Observed};
use crate::core::statement;
use crate::core::step::{Fact, Lane, Step};

/// All steps that are left, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    steps: Vec<Step>,
    held: BTreeSet<Fact>,
    closed: BTreeSet<Lane>,
}

/// What keeps a step from running now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Blocker<'a> {
    /// Its lane gives no answer.
    Lane,
    /// A fact that was not observed.
    Fact(&'a Fact),
}

impl Blocker<'_> {
    /// What is waited for, for people.
    pub fn text(self) -> String {
        match self {
            Self::Lane => "the system to answer".into(),
            Self::Fact(fact) => fact.text(),
        }
    }
}

/// A step that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Deferred<'a> {
    /// The step.
    pub step: &'a Step,
    /// What it waits for.
    pub waits_for: Blocker<'a>,
}

impl Plan {
    /// Orders the steps. `held` are the facts that were observed, `closed` the lanes that gave no answer.
    pub fn new(mut steps: Vec<Step>, held: BTreeSet<Fact>, closed: BTreeSet<Lane>) -> Self {
        steps.sort_by_key(|step| step.stage);
        Self { steps, held, closed }
    }

    /// Whether nothing is left to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// All steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps that may run now: each need was observed, no earlier step of this plan gives it anew, and
    /// the lane answers.
    pub fn first_wave(&self) -> Vec<&Step> {
        self.steps.iter().filter(|step| self.blocker(step).is_none()).collect()
    }

    /// The steps that wait for another one, or for their lane.
    pub fn deferred(&self) -> Vec<Deferred<'_>> {
        self.steps
            .iter()
            .filter_map(|step| self.blocker(step).map(|waits_for| Deferred { step, waits_for }))
            .collect()
    }

    /// What keeps a step from running, if anything does.
    pub fn blocker<'a>(&self, step: &'a Step) -> Option<Blocker<'a>> {
        if self.closed.contains(&step.lane()) {
            return Some(Blocker::Lane);
        }
        step.needs.iter().find(|need| !self.held.contains(need)).map(Blocker::Fact)
    }

    /// Text that is equal for equal plans: two waves that leave the same one made no progress.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let _ = writeln!(text, "{:?} {:?} {} {:?}", step.stage, step.kind, step.what, step.effect);
            // `Debug` hides the values, and a plan that changes one is another plan. Only a hash leaves this place.
            match &step.effect {
                Effect::Connect(ConnectEffect::PutConfig { config, .. }) => text.extend(whole(config)),
                Effect::Connect(ConnectEffect::Create { config, .. }) => text.extend(whole(config)),
                _ => {}
            }
        }
        tidemark_crds::names::short_hash(&text)
    }
}

/// Lanes whose system gave no answer.
pub fn unreachable_lanes(observed: &Observed) -> BTreeSet<Lane> {
    fn silent<T>(observation: &Observation<T>) -> bool {
        matches!(observation, Observation::Unreachable(_) | Observation::NotAsked)
    }
    [
        (Lane::ClickHouse, silent(&observed.clickhouse)),
        (Lane::Postgres, silent(&observed.postgres)),
        (Lane::Kafka, silent(&observed.kafka)),
        (Lane::Connect, silent(&observed.connect)),
        (Lane::Kubernetes, silent(&observed.kubernetes)),
        (Lane::Grafana, silent(&observed.grafana)),
        (Lane::FormerGrafana, silent(&observed.former_grafana)),
    ]
    .into_iter()
    .filter_map(|(lane, silent)| silent.then_some(lane))
    .collect()
}

/// A connector's configuration with its secrets.
fn whole(config: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    config.iter().map(|(key, value)| format!("{key}={value}\n"))
}

/// A connector's configuration without its secrets, and without a hash over what is not known yet.
fn shown(config: &BTreeMap<String, String>) -> Vec<String> {
    let has_given = config.values().any(|value| is_given(value));
    let open = config.iter().filter(|(key, value)| !is_secret(key) || is_placeholder(value));
    open.filter(|(key, _)| !has_given || *key != HASH_KEY)
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// What a step sends, as far as people want to see it; secrets are never part of it.
pub fn details(effect: &Effect) -> Vec<String> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    match effect {
        Effect::ClickHouse(ClickHouseEffect::CreateTable(table)) if table.columns.is_empty() => {
            vec![
                "its columns are those that ClickHouse gives the view, once what it reads is there"
                    .to_owned(),
            ]
        }
        Effect::ClickHouse(effect) => lines(&statement::clickhouse(effect)),
        Effect::Postgres(effect) => lines(&statement::postgres(effect)),
        Effect::Ledger { kind, key, version, .. } => {
            vec![format!("ledger {} {key} version {version}", kind.as_str())]
        }
        Effect::Fence { table, version, reason } => {
            vec![format!("fence of {table} at {version:?} ({reason})")]
        }
        Effect::Kafka(KafkaEffect::CreateTopic { name, partitions, .. }) => {
            vec![format!("{name}, {partitions} partitions")]
        }
        Effect::Kafka(effect) => vec![format!("{effect:?}")],
        Effect::Connect(ConnectEffect::PutConfig { config, .. }) => shown(config),
        Effect::Connect(ConnectEffect::Create { config, .. }) => shown(config),
        Effect::Connect(effect) => vec![format!("{effect:?}")],
        Effect::Kubernetes(KubernetesEffect::Apply { .. }) => Vec::new(),
        Effect::Kubernetes(effect) => vec![format!("{effect:?}")],
        Effect::Grafana(effect) => vec![effect.call.text()],
    }
}

impl Fact {
    /// The fact for people.
    pub fn text(&self) -> String {
        match self {
            Self::Database => "the database".into(),
            Self::Bookkeeping => "the ledger".into(),
            Self::Incarnation => "the ledger's incarnation".into(),
            Self::StateTable(name) => format!("state table {name}"),
            Self::Layout(name) => format!("the layout of {name}"),
            Self::Fence(name) => format!("the fence of {name}"),
            Self::CurrentView(name) => format!("view {name}_current"),
            Self::View(name) => format!("view {name}"),
            Self::Publication => "the publication".into(),
            Self::Source => "the source's preflight".into(),
            Self::TopicNoted(name) => format!("topic {name} to be noted in the ledger"),
            Self::Topic(name) => format!("topic {name}"),
            Self::Sink => "the sink".into(),
            Self::Connector => "the connector".into(),
            Self::ConnectorStopped => "the connector to stop".into(),
            Self::ConnectorGone => "the connector to be gone".into(),
            Self::OffsetsGone => "the connector's offsets to be gone".into(),
            Self::SinkDrained => "the sink to drain".into(),
            Self::ViewsGone => "the views to be gone".into(),
            Self::SlotGone => "the slot to be gone".into(),
            Self::Other(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::effect::{ClickHouseEffect, DatabaseDefinition};
    use crate::core::step::{Stage, StepKind};

    fn step(stage: Stage, needs: &[Fact], gives: Option<Fact>) -> Step {
        let what = format!("{stage:?}");
        let effect = DatabaseDefinition { name: what.clone(), comment: String::new() };
        let effect = Effect::from(ClickHouseEffect::CreateDatabase(effect));
        Step { stage, kind: StepKind::Create, what, needs: needs.to_vec(), gives, effect }
    }

    fn plan(held: &[Fact], closed: &[Lane]) -> Plan {
        let steps = vec![
            step(Stage::StateTable, &[Fact::Bookkeeping], Some(Fact::StateTable("orders".into()))),
            step(Stage::Bookkeeping, &[Fact::Database], Some(Fact::Bookkeeping)),
            step(Stage::Database, &[], Some(Fact::Database)),
        ];
        Plan::new(steps, held.iter().cloned().collect(), closed.iter().copied().collect())
    }

    #[test]
    fn only_steps_whose_needs_were_observed_are_in_the_first_wave() {
        let names =
            |plan: &Plan| -> Vec<String> { plan.first_wave().iter().map(|s| s.what.clone()).collect() };
        assert_eq!(names(&plan(&[], &[])), ["Database"]);
        assert_eq!(names(&plan(&[Fact::Bookkeeping], &[])), ["Database", "StateTable"]);
        assert_eq!(plan(&[], &[]).deferred().len(), 2);
    }

    #[test]
    fn a_closed_lane_runs_nothing_and_its_steps_are_still_there() {
        let plan = plan(&[Fact::Database, Fact::Bookkeeping], &[Lane::ClickHouse]);
        assert!(plan.first_wave().is_empty());
        assert!(plan.deferred().iter().all(|it| it.waits_for == Blocker::Lane) && plan.steps().len() == 3);
    }

    #[test]
    fn two_plans_that_differ_in_a_secret_alone_are_two() {
        let plan = |password: &str| {
            let config = BTreeMap::from([("database.password".to_owned(), password.to_owned())]);
            let effect = Effect::Connect(ConnectEffect::Create { name: "shop".into(), config });
            let step = Step { effect, ..step(Stage::Connector, &[], None) };
            Plan::new(vec![step], BTreeSet::new(), BTreeSet::new())
        };
        assert_ne!(plan("one").fingerprint(), plan("other").fingerprint());
        assert_eq!(plan("one").fingerprint(), plan("one").fingerprint());
        assert!(!format!("{:?}", details(&plan("s3cret").steps()[0].effect)).contains("s3cret"));
    }

    #[test]
    fn the_order_is_that_of_the_static_table() {
        let whats: Vec<String> = plan(&[], &[]).steps().iter().map(|step| step.what.clone()).collect();
        assert_eq!(whats, ["Database", "Bookkeeping", "StateTable"]);
    }

    #[test]
    fn a_hash_over_what_nobody_knows_yet_is_not_shown() {
        let lines = |identity: &str| {
            let config = [("tidemark.clickhouse", identity), (HASH_KEY, "1a2b")];
            let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            details(&Effect::Connect(ConnectEffect::Create { name: "shop".into(), config }))
        };
        assert_eq!(lines("an-id"), ["tidemark.clickhouse=an-id", "tidemark.hash=1a2b"]);
        let given = format!("{}database shop", crate::core::assume::GIVEN);
        assert_eq!(lines(&given), ["tidemark.clickhouse=given when it is made: database shop"]);
    }
}
