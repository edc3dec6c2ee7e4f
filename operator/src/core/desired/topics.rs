//! Kafka topics: of the tables, of the heartbeats and logical messages, of the dead letters. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidemark_crds::conditions::{ConditionType, Reason};
use tidemark_crds::duration;
use tidemark_crds::layout::SourceTable;
use tidemark_crds::ledger::Kind;
use tidemark_crds::names::{LONGEST_TOPIC, Topics};
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, Kafka};

use super::part::{Part, Problem};
use crate::core::effect::{Effect, KafkaEffect};
use crate::core::facts::{KafkaFacts, LedgerFacts, TopicSettings};
use crate::core::gate::Proof;
use crate::core::problem::{Left, Problem as Finding};
use crate::core::step::{Fact, Stage, StepKind};

/// Retention of the table topics where the spec's text is none, in milliseconds.
const WEEK_MS: u64 = 7 * 24 * 3_600_000;
/// Retention of heartbeats and messages, in milliseconds: only the newest count.
const HOUR_MS: u64 = 3_600_000;

/// Topics that a message names at most.
const MOST_NAMES: usize = 5;

/// The topics of a pipeline's tables: each must have one of its own.
#[derive(Debug)]
pub struct Names<'a> {
    topics: Topics<'a>,
    taken: BTreeMap<String, SourceTable>,
}

impl<'a> Names<'a> {
    /// Begins with no table.
    pub fn new(prefix: &'a str) -> Self {
        Self { topics: Topics { prefix }, taken: BTreeMap::new() }
    }

    /// Takes the topic of a table; an error where Kafka can have none of that name, or another table has it: a topic's
    /// name has `_` for each character that it cannot have.
    pub fn claim(&mut self, table: &SourceTable) -> Result<(), Problem> {
        let topic = self.topics.table(table);
        if topic.len() > LONGEST_TOPIC {
            let message = format!(
                "table {table}: its topic would have a name of {} characters, and {LONGEST_TOPIC} are possible: choose \
                 a shorter spec.kafka.topicPrefix in a new pipeline, or rename the table",
                topic.len()
            );
            return Err(Problem::new(table.to_string(), Reason::InvalidSpec, message));
        }
        match self.taken.get(&topic) {
            Some(other) if other != table => {
                let message = format!(
                    "table {table}: its topic {topic} is that of {other} too: run ALTER TABLE ... RENAME TO on one of \
                     them, or capture it by a pipeline of its own"
                );
                Err(Problem::new(table.to_string(), Reason::Conflict, message))
            }
            _ => {
                self.taken.insert(topic, table.clone());
                Ok(())
            }
        }
    }
}

/// Every topic that a spec asks for.
pub fn names(spec: &AnalyticsPipelineSpec) -> Vec<String> {
    let names = Topics { prefix: &spec.kafka.topic_prefix };
    let tables = spec.all_tables();
    let tables = tables.iter().filter_map(|table| Some(names.table(&table.name.parse().ok()?)));
    let others = [names.heartbeat(), names.message(), dead_letter(spec)];
    tables.chain(others).collect()
}

/// Those that can be the pipeline's alone.
pub fn exclusive(spec: &AnalyticsPipelineSpec) -> Vec<String> {
    names(spec).into_iter().filter(|name| is_exclusive(&spec.kafka, name)).collect()
}

/// Topic of the dead letters.
pub fn dead_letter(spec: &AnalyticsPipelineSpec) -> String {
    let topics = Topics { prefix: &spec.kafka.topic_prefix };
    spec.sink.dead_letter.topic.clone().unwrap_or_else(|| topics.dead_letter())
}

/// How a topic should be.
struct Wanted {
    partitions: i32,
    retention_ms: u64,
    /// Whether its partitions are those of the spec.
    is_table: bool,
}

fn wanted(kafka: &Kafka, tables: &[SourceTable], dead_letter: &str) -> BTreeMap<String, Wanted> {
    let names = Topics { prefix: &kafka.topic_prefix };
    let retention_ms = duration::milliseconds(&kafka.topics.retention).unwrap_or(WEEK_MS);
    let one = |retention_ms| Wanted { partitions: 1, retention_ms, is_table: false };
    let partitions = kafka.topics.partitions;
    let mut wanted: BTreeMap<String, Wanted> = tables
        .iter()
        .map(|table| (names.table(table), Wanted { partitions, retention_ms, is_table: true }))
        .collect();
    wanted.insert(dead_letter.to_owned(), one(retention_ms));
    wanted.insert(names.heartbeat(), one(HOUR_MS));
    wanted.insert(names.message(), one(HOUR_MS));
    wanted
}

/// The settings that follow the spec.
fn followed(kafka: &Kafka, wanted: &Wanted) -> [(&'static str, String); 2] {
    [
        ("retention.ms", wanted.retention_ms.to_string()),
        ("max.message.bytes", kafka.most_message_bytes().to_string()),
    ]
}

/// The settings of a topic that are other than they should be, as far as they are known: name, value, and what it is.
fn differing(kafka: &Kafka, wanted: &Wanted, live: &TopicSettings) -> Vec<(&'static str, String, String)> {
    let differs = |(key, value): (&'static str, String)| {
        let known = live.all.get(key)?;
        (*known != value).then(|| (key, value, known.clone()))
    };
    followed(kafka, wanted).into_iter().filter_map(differs).collect()
}

/// Why the topic prefix is another pipeline's, of whatever cluster: a topic says so that was there before this pipeline had
/// one. Of two that began in the same moment, and see both, the first by name keeps it.
pub fn taken(prefix: &str, mark: &str, facts: &KafkaFacts) -> Option<Finding> {
    let names = Topics { prefix };
    let own = names.owner(mark);
    let mut topics = facts.topics.keys().filter(|topic| **topic != own);
    let (topic, owner) = topics.find_map(|topic| Some((topic, names.owner_by(topic)?)))?;
    if facts.topics.contains_key(&own) && own < *topic {
        return None;
    }
    let mut parts = owner.splitn(3, '.');
    let (cluster, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let name = parts.next().unwrap_or_default();
    let message = format!(
        "topic prefix {prefix} is that of AnalyticsPipeline {namespace}/{name} of cluster {cluster}, as topic {topic} says: \
         two would hide each other's rows, so this one writes nothing to Kafka: make it anew with another \
         spec.kafka.topicPrefix; or, where that one is gone for good, delete topic {topic}"
    );
    Some(Finding::of_all(ConditionType::ConnectorRunning, Reason::Conflict, message))
}

/// Makes the topic that says whose the topic prefix is. It is seen before anything else is made.
fn claim(kafka: &Kafka, name: String, facts: &KafkaFacts, part: &mut Part) {
    if facts.topics.contains_key(&name) {
        return;
    }
    let what = format!("create topic {name}, which says whose the topic prefix is");
    let effect = Effect::Kafka(KafkaEffect::CreateTopic {
        name: name.clone(),
        partitions: 1,
        replication_factor: kafka.topics.replication_factor,
        config: [("cleanup.policy".to_owned(), "delete".to_owned())].into(),
    });
    part.step(
        (Stage::Topic, StepKind::Create),
        what,
        vec![Fact::Bookkeeping],
        Some(Fact::Topic(name)),
        effect,
    );
}

/// What a topic is given when it is made.
fn given(kafka: &Kafka, wanted: &Wanted) -> BTreeMap<String, String> {
    let mut config: BTreeMap<String, String> =
        followed(kafka, wanted).map(|(key, value)| (key.to_owned(), value)).into();
    config.insert("cleanup.policy".to_owned(), "delete".to_owned());
    config
}

/// Whether a topic is as the pipeline would have made it; `None`: that cannot be seen.
fn is_as_given(kafka: &Kafka, name: &str, wanted: &Wanted, facts: &KafkaFacts) -> Option<bool> {
    let live = facts.settings.get(name)?;
    let given = given(kafka, wanted);
    let is_set =
        |(key, value): (&String, &String)| live.own.contains(key) && live.all.get(key) == Some(value);
    Some(facts.topics.get(name) == Some(&wanted.partitions) && given.iter().all(is_set))
}

/// Whether a topic can be the pipeline's alone. One of dead letters may be that of many pipelines where its name is none
/// of the prefix: then none of them changes or removes it.
fn is_exclusive(kafka: &Kafka, name: &str) -> bool {
    let names = Topics { prefix: &kafka.topic_prefix };
    name == names.heartbeat() || name.strip_prefix(names.prefix).is_some_and(|rest| rest.starts_with('.'))
}

/// Topics that the pipeline made, of those that are there: the ledger has it of each, once it was seen as it was made.
/// Before that a note tells nothing of who made it, for somebody else may have while the brokers refused it to us.
pub fn own(spec: &AnalyticsPipelineSpec, facts: &KafkaFacts, ledger: &LedgerFacts) -> Vec<String> {
    let tables = spec.all_tables();
    let sources: Vec<SourceTable> = tables.iter().filter_map(|table| table.name.parse().ok()).collect();
    let wanted = wanted(&spec.kafka, &sources, &dead_letter(spec));
    let is_own = |name: &&String| {
        let fresh =
            || wanted.get(*name).is_some_and(|wanted| is_fresh(&spec.kafka, name, wanted, facts, ledger));
        ledger.made_topics.contains(*name) || fresh()
    };
    facts.topics.keys().filter(is_own).cloned().collect()
}

/// Whether a topic was noted and made, and the ledger does not have it yet that it was.
fn is_fresh(kafka: &Kafka, name: &str, wanted: &Wanted, facts: &KafkaFacts, ledger: &LedgerFacts) -> bool {
    ledger.topics.contains(name) && is_as_given(kafka, name, wanted, facts) == Some(true)
}

/// Makes the topics that are missing, each after the ledger has it that it is going to be the pipeline's. Of one that is,
/// settings follow the spec. One that others made is left as it is, and is nobody's to remove: its partitions and settings
/// may have been chosen by somebody.
pub fn steps(
    kafka: &Kafka,
    tables: &[SourceTable],
    dead_letter: &str,
    facts: &KafkaFacts,
    ledger: Option<&LedgerFacts>,
    (mark, proof): (&str, Option<Proof>),
) -> Part {
    let mut part = Part::default();
    let owner = Topics { prefix: &kafka.topic_prefix }.owner(mark);
    let claimed = Fact::Topic(owner.clone());
    claim(kafka, owner, facts, &mut part);
    let wanted = wanted(kafka, tables, dead_letter);
    if let Some(ledger) = ledger {
        settle(kafka, &wanted, facts, ledger, &mut part);
    }
    for (name, wanted) in wanted {
        if facts.topics.contains_key(&name) {
            let is_ours = ledger.is_some_and(|ledger| ledger.made_topics.contains(&name));
            if let Some(proof) = proof.filter(|_| is_ours) {
                set_up(kafka, name, &wanted, facts, proof, &mut part);
            }
            continue;
        }
        let is_exclusive = is_exclusive(kafka, &name);
        if let Some(ledger) = ledger.filter(|ledger| is_exclusive && !ledger.topics.contains(&name)) {
            let what = format!("note topic {name} as the pipeline's in the ledger");
            let needs = vec![Fact::Bookkeeping, claimed.clone()];
            let gives = Some(Fact::TopicNoted(name.clone()));
            note(ledger, &name, json!(true), (what, StepKind::Create), (needs, gives), &mut part);
        }
        let partitions = wanted.partitions;
        let effect = Effect::Kafka(KafkaEffect::CreateTopic {
            name: name.clone(),
            partitions,
            replication_factor: kafka.topics.replication_factor,
            config: given(kafka, &wanted),
        });
        let what = format!("create topic {name} with {partitions} partitions");
        let noted = is_exclusive.then(|| Fact::TopicNoted(name.clone()));
        let needs = noted.into_iter().chain([claimed.clone()]).collect();
        part.step((Stage::Topic, StepKind::Create), what, needs, Some(Fact::Topic(name)), effect);
    }
    part
}

/// Notes which topics were made, and withdraws the notes of those that others made meanwhile.
fn settle(
    kafka: &Kafka,
    wanted: &BTreeMap<String, Wanted>,
    facts: &KafkaFacts,
    ledger: &LedgerFacts,
    part: &mut Part,
) {
    let is_there = |name: &&String| facts.topics.contains_key(*name);
    let mut made: BTreeSet<&String> = ledger.made_topics.iter().filter(is_there).collect();
    for (name, wanted) in wanted.iter().filter(|(name, _)| is_there(name)) {
        if made.contains(name) || !ledger.topics.contains(name) {
            continue;
        }
        match is_as_given(kafka, name, wanted, facts) {
            Some(true) => drop(made.insert(name)),
            Some(false) => {
                let what = format!("withdraw the note of topic {name}, which others made");
                note(
                    ledger,
                    name,
                    Value::Null,
                    (what, StepKind::Change),
                    (vec![Fact::Bookkeeping], None),
                    part,
                );
            }
            None => {}
        }
    }
    if !made.iter().copied().eq(&ledger.made_topics) {
        let what = format!("note in the ledger that {} topics are made", made.len());
        note(ledger, "", json!(made), (what, StepKind::Change), (vec![Fact::Bookkeeping], None), part);
    }
}

/// A row of the ledger about topics.
fn note(
    ledger: &LedgerFacts,
    key: &str,
    value: Value,
    (what, kind): (String, StepKind),
    (needs, gives): (Vec<Fact>, Option<Fact>),
    part: &mut Part,
) {
    let version = ledger.next_version(Kind::Topic, key);
    let effect = Effect::Ledger { kind: Kind::Topic, key: key.to_owned(), version, value };
    part.step((Stage::Ledger, kind), what, needs, gives, effect);
}

/// Brings the settings of a topic of ours to those of the spec. A shorter retention takes records away.
fn set_up(kafka: &Kafka, name: String, wanted: &Wanted, facts: &KafkaFacts, proof: Proof, part: &mut Part) {
    let Some(live) = facts.settings.get(&name) else {
        return;
    };
    let differing = differing(kafka, wanted, live);
    if differing.is_empty() {
        return;
    }
    // Kafka takes all of a topic's own settings at once: those that others set stay.
    let own = live.all.iter().filter(|(key, _)| live.own.contains(*key));
    let mut config: BTreeMap<String, String> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    config.extend(differing.iter().map(|(key, value, _)| ((*key).to_owned(), value.clone())));
    let text: Vec<String> =
        differing.iter().map(|(key, value, live)| format!("{key} from {live} to {value}")).collect();
    let what = format!("set {} of topic {name}", text.join(", "));
    let effect = Effect::Kafka(KafkaEffect::AlterTopic { name, config: proof.allow(config) });
    part.step((Stage::Topic, StepKind::Change), what, vec![], None, effect);
}

/// Whether a topic has another number of replicas than the spec asks for; -1 leaves it to the brokers.
fn replicas_differ(kafka: &Kafka, name: &str, facts: &KafkaFacts) -> Option<i32> {
    let wanted = kafka.topics.replication_factor;
    facts.replicas.get(name).copied().filter(|live| wanted > 0 && *live != wanted)
}

/// What differs and is left: partitions, which are not added to a topic that is in use, replicas, which brokers move only
/// when their administrator says where to, and everything of topics that others made.
pub fn left(
    kafka: &Kafka,
    tables: &[SourceTable],
    dead_letter: &str,
    facts: &KafkaFacts,
    ledger: &LedgerFacts,
) -> Vec<Left> {
    let (mut few, mut others, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_safe = true;
    for (name, wanted) in wanted(kafka, tables, dead_letter) {
        let Some(partitions) = facts.topics.get(&name) else {
            continue;
        };
        let is_ours = ledger.made_topics.contains(&name) || is_fresh(kafka, &name, &wanted, facts, ledger);
        let differs = wanted.is_table && *partitions != wanted.partitions;
        if is_ours {
            if differs && *partitions < wanted.partitions {
                few.push(format!("{name} ({partitions})"));
            }
            if let Some(replicas) = replicas_differ(kafka, &name, facts) {
                is_safe &= replicas > kafka.topics.replication_factor;
                copies.push(format!("{name} ({replicas})"));
            }
            continue;
        }
        let mut found = Vec::new();
        if differs {
            found.push(format!("partitions {partitions} instead of {}", wanted.partitions));
        }
        if let Some(replicas) = replicas_differ(kafka, &name, facts) {
            found.push(format!("replicas {replicas} instead of {}", kafka.topics.replication_factor));
        }
        let settings = facts.settings.get(&name).map(|live| differing(kafka, &wanted, live));
        found.extend(
            settings
                .into_iter()
                .flatten()
                .map(|(key, value, live)| format!("{key} {live} instead of {value}")),
        );
        if !found.is_empty() {
            others.push(format!("{name} ({})", found.join(", ")));
        }
    }
    let condition = ConditionType::ConnectorRunning;
    let few = (!few.is_empty()).then(|| Left {
        condition,
        message: format!(
            "spec.kafka.topics.partitions is {}, and these topics have fewer: {}: Tidemark adds none to a topic that is in \
             use, since changes of one row would overtake each other; make a new pipeline beside this one, then switch",
            kafka.topics.partitions,
            some(&few)
        ),
        is_open: true,
    });
    let copies = (!copies.is_empty()).then(|| Left {
        condition,
        message: format!(
            "spec.kafka.topics.replicationFactor is {}, and these topics have another number of replicas: {}: Tidemark moves \
             none between brokers; run kafka-reassign-partitions.sh for them, or set the field to what they have, or to -1",
            kafka.topics.replication_factor,
            some(&copies)
        ),
        // More than were asked for are no worse.
        is_open: !is_safe,
    });
    let others = (!others.is_empty()).then(|| {
        let message = format!(
            "topics that this pipeline did not make differ from spec.kafka: {}: whoever made them can change them",
            some(&others)
        );
        Left::settled(condition, message)
    });
    few.into_iter().chain(copies).chain(others).collect()
}

fn some(all: &[String]) -> String {
    let more = all.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", all[..all.len().min(MOST_NAMES)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::gate::{Gate, System};
    use crate::core::step::Step;

    const MARK: &str = "tidemark u/ns/shop";

    fn proof() -> (&'static str, Option<Proof>) {
        (MARK, Gate::open().proof(System::Kafka))
    }

    #[test]
    fn a_prefix_is_that_of_whoever_was_there_first_and_of_two_at_once_of_one_of_them() {
        let owner = |cluster: &str| Topics { prefix: "shop" }.owner(&format!("tidemark {cluster}/ns/shop"));
        let said = |topics: &[String]| {
            let topics = topics.iter().map(|topic| (topic.clone(), 1)).collect();
            taken("shop", MARK, &KafkaFacts { topics, ..KafkaFacts::default() }).map(|said| said.message)
        };
        let tables = ["shop.public.orders".to_owned(), "shop.owner.accounts".to_owned()];
        assert_eq!((said(&[]), said(&tables), said(&[owner("u")])), (None, None, None));
        assert_eq!(said(&["shop.eu.owner.v.ns.shop".to_owned()]), None, "of another prefix");
        let message = said(&[owner("a")]).expect("another was there first");
        for part in [
            "topic prefix shop",
            "AnalyticsPipeline ns/shop of cluster a",
            "delete topic shop.owner.a.ns.shop",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(said(&[owner("v")]).is_some(), "whatever its name");
        assert!(said(&[owner("a"), owner("u")]).is_some() && said(&[owner("u"), owner("v")]).is_none());
    }

    #[test]
    fn two_tables_of_one_topic_and_one_without_are_named() {
        let mut names = Names::new("shop");
        let table = |name: &str| name.parse::<SourceTable>().unwrap();
        names.claim(&table("public.a b")).unwrap();
        names.claim(&table("public.a b")).unwrap();
        let taken = names.claim(&table("public.a,b")).unwrap_err();
        assert!(taken.message.contains("shop.public.a_b is that of public.a b too"), "{taken:?}");
        let long = format!("{}.{}", "s".repeat(63), "t".repeat(63));
        assert!(Names::new("shop").claim(&table(&long)).is_ok());
        let refused = Names::new(&"p".repeat(150)).claim(&table(&long)).unwrap_err();
        assert!(refused.message.contains("278 characters"), "{refused:?}");
    }

    /// Topics of a pipeline with retention and size as its spec says, but for what is changed.
    fn live(kafka: &Kafka, change: impl Fn(&mut TopicSettings), partitions: i32) -> KafkaFacts {
        let tables = ["public.orders".parse().unwrap()];
        let mut facts = KafkaFacts::default();
        for (name, wanted) in wanted(kafka, &tables, "shop.dead-letter") {
            let mut settings = TopicSettings::default();
            for (key, value) in followed(kafka, &wanted) {
                settings.all.insert(key.to_owned(), value);
                settings.own.insert(key.to_owned());
            }
            settings.all.insert("min.insync.replicas".into(), "2".into());
            settings.own.insert("min.insync.replicas".into());
            settings.all.insert("segment.ms".into(), "604800000".into());
            if wanted.is_table {
                change(&mut settings);
            }
            facts.topics.insert(name.clone(), if wanted.is_table { partitions } else { 1 });
            facts.settings.insert(name, settings);
        }
        facts.topics.insert(Topics { prefix: "shop" }.owner(MARK), 1);
        facts
    }

    #[test]
    fn settings_of_our_topics_follow_the_spec_and_those_of_others_are_named() {
        let kafka: Kafka = serde_json::from_value(serde_json::json!({
            "bootstrapServers": "k:9092", "topicPrefix": "shop", "topics": {"retention": "720h", "partitions": 8},
        }))
        .unwrap();
        let tables = ["public.orders".parse().unwrap()];
        let topic = "shop.public.orders";
        let ours = LedgerFacts { made_topics: [topic.to_owned()].into(), ..LedgerFacts::default() };
        let both = |facts: &KafkaFacts, ledger: &LedgerFacts| {
            let part = steps(&kafka, &tables, "shop.dead-letter", facts, Some(ledger), proof());
            (part.steps, left(&kafka, &tables, "shop.dead-letter", facts, ledger))
        };
        let same = live(&kafka, |_| {}, 8);
        assert_eq!(both(&same, &ours), (vec![], vec![]));

        let week =
            live(&kafka, |settings| drop(settings.all.insert("retention.ms".into(), "604800000".into())), 8);
        let (steps, found) = both(&week, &ours);
        assert_eq!(
            steps[0].what,
            "set retention.ms from 604800000 to 2592000000 of topic shop.public.orders"
        );
        let Effect::Kafka(KafkaEffect::AlterTopic { config, .. }) = &steps[0].effect else {
            panic!("{steps:?}")
        };
        let keys: Vec<&str> = config.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["max.message.bytes", "min.insync.replicas", "retention.ms"],
            "what others set stays"
        );
        assert_eq!(config["retention.ms"], "2592000000");
        assert!(steps.len() == 1 && found.is_empty());

        let (steps, found) = both(&week, &LedgerFacts::default());
        assert!(steps.is_empty() && !found[0].is_open);
        assert!(found[0].message.contains("retention.ms 604800000 instead of 2592000000"), "{found:?}");

        let unknown = KafkaFacts { settings: BTreeMap::new(), ..week };
        assert_eq!(both(&unknown, &ours), (vec![], vec![]), "nothing is known, and nothing is done");
    }

    #[test]
    fn partitions_are_never_added_and_what_is_asked_for_stays_open() {
        let kafka: Kafka = serde_json::from_value(serde_json::json!({
            "bootstrapServers": "k:9092", "topicPrefix": "shop", "topics": {"partitions": 8},
        }))
        .unwrap();
        let tables = ["public.orders".parse().unwrap()];
        let topic = "shop.public.orders";
        let ours = LedgerFacts { made_topics: [topic.to_owned()].into(), ..LedgerFacts::default() };
        for (partitions, ledger, expected) in [
            (4, &ours, Some((true, "shop.public.orders (4)"))),
            (8, &ours, None),
            // Somebody added some.
            (9, &ours, None),
            (4, &LedgerFacts::default(), Some((false, "partitions 4 instead of 8"))),
            (9, &LedgerFacts::default(), Some((false, "partitions 9 instead of 8"))),
        ] {
            let facts = live(&kafka, |_| {}, partitions);
            let part = steps(&kafka, &tables, "shop.dead-letter", &facts, Some(ledger), proof());
            assert_eq!(part, Part::default());
            let found = left(&kafka, &tables, "shop.dead-letter", &facts, ledger);
            let found = found.first().map(|left| (left.is_open, left.message.as_str()));
            match (found, expected) {
                (None, None) => {}
                (Some((open, message)), Some((expected, text))) => {
                    assert!(open == expected && message.contains(text), "{partitions}: {message}");
                }
                other => panic!("{partitions}: {other:?}"),
            }
        }
    }

    #[test]
    fn replicas_that_are_not_as_many_as_the_spec_asks_for_are_named() {
        let kafka = |factor: i32| -> Kafka {
            let topics = serde_json::json!({"replicationFactor": factor, "partitions": 8});
            let kafka =
                serde_json::json!({"bootstrapServers": "k:9092", "topicPrefix": "shop", "topics": topics});
            serde_json::from_value(kafka).unwrap()
        };
        let tables = ["public.orders".parse().unwrap()];
        let topic = "shop.public.orders";
        let ours = LedgerFacts { made_topics: [topic.to_owned()].into(), ..LedgerFacts::default() };
        for (factor, live_replicas, ledger, expected) in [
            (3, Some(3), &ours, None),
            (3, Some(1), &ours, Some((true, "shop.public.orders (1)"))),
            (1, Some(3), &ours, Some((false, "shop.public.orders (3)"))),
            (3, Some(1), &LedgerFacts::default(), Some((false, "replicas 1 instead of 3"))),
            // The brokers' default is whatever it was.
            (-1, Some(1), &ours, None),
            (3, None, &ours, None),
        ] {
            let kafka = kafka(factor);
            let mut facts = live(&kafka, |_| {}, 8);
            facts.replicas.extend(live_replicas.map(|replicas| (topic.to_owned(), replicas)));
            let part = steps(&kafka, &tables, "shop.dead-letter", &facts, Some(ledger), proof());
            assert!(!part.steps.iter().any(|step| step.what.contains(topic)), "{part:?}");
            let found = left(&kafka, &tables, "shop.dead-letter", &facts, ledger);
            let found: Vec<(bool, &str)> =
                found.iter().map(|left| (left.is_open, left.message.as_str())).collect();
            match (found.as_slice(), expected) {
                ([], None) => {}
                ([(open, message)], Some((expected, text))) => {
                    assert!(*open == expected && message.contains(text), "{factor}: {message}");
                }
                other => panic!("{factor}: {other:?}"),
            }
        }
    }

    #[test]
    fn missing_topics_are_made_and_existing_ones_left_alone() {
        let kafka: Kafka =
            serde_json::from_value(serde_json::json!({"bootstrapServers": "k:9092", "topicPrefix": "shop"}))
                .unwrap();
        let tables = ["public.orders".parse().unwrap()];
        let owner = Topics { prefix: "shop" }.owner(MARK);
        let nothing = KafkaFacts { topics: [(owner.clone(), 1)].into(), ..KafkaFacts::default() };
        let noted = ["shop.dead-letter", "shop.message", "__debezium-heartbeat.shop", "shop.public.orders"];
        let noted = LedgerFacts { topics: noted.map(str::to_owned).into(), ..LedgerFacts::default() };
        let part = steps(&kafka, &tables, "shop.dead-letter", &nothing, Some(&noted), proof());
        insta::assert_debug_snapshot!(part);
        let first =
            steps(&kafka, &tables, "shop.dead-letter", &nothing, Some(&LedgerFacts::default()), proof());
        assert_eq!(first.steps.len(), 8, "each is noted before it is made");
        let claimed = Fact::Topic(owner.clone());
        for made in first.steps.iter().filter(|step| step.stage == Stage::Topic) {
            let needs = |step: &Step| {
                step.gives.as_ref().is_some_and(|gives| made.needs == [gives.clone(), claimed.clone()])
            };
            assert!(first.steps.iter().any(needs), "{:?}", made.needs);
        }
        let from_nothing = KafkaFacts::default();
        let ledger = LedgerFacts::default();
        let all = steps(&kafka, &tables, "shop.dead-letter", &from_nothing, Some(&ledger), proof()).steps;
        assert_eq!(all.len(), 9, "and before all of them it is said whose they are");
        for step in &all {
            assert_ne!(step.gives == Some(claimed.clone()), step.needs.contains(&claimed), "{step:?}");
        }
        let topics = part.steps.iter().filter_map(|step| match &step.effect {
            Effect::Kafka(KafkaEffect::CreateTopic { name, partitions, .. }) => {
                Some((name.clone(), *partitions))
            }
            _ => None,
        });
        let all = KafkaFacts { topics: topics.chain([(owner, 1)]).collect(), ..KafkaFacts::default() };
        let unknown = LedgerFacts::default();
        assert_eq!(
            steps(&kafka, &tables, "shop.dead-letter", &all, Some(&unknown), proof()),
            Part::default()
        );
    }
}
