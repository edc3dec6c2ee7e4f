//! What a team does with a pipeline, and what others do to it: plans of moves, each from an estate and a spec.

mod foreign;
mod generated;
mod hands;
mod lives;
mod moves;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tidemark_crds::status::AnalyticsPipelineStatus;
use tidemark_operator::core::step::Lane;

pub(super) use self::generated::generated;
use super::clickhouse::Database;
use super::estate::{CLICKHOUSE, CONNECT, Estate, KAFKA, POSTGRES};
use super::kubernetes::Resource;
use super::normal::{difference, normal};

/// A change of the estate from outside.
pub(super) type Move = Arc<dyn Fn(&mut Estate) + Send + Sync>;

/// A list of moves; after each the operator comes to rest.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) moves: Vec<(String, Move)>,
    /// The estate that it begins with; absent: a shop without a pipeline.
    begins: Option<Arc<Estate>>,
    /// What is of somebody else: it has to be at the end as it was at the beginning.
    planted: Option<fn(&mut Estate)>,
    /// Whether it has to be ready at the end.
    pub(super) ends_ready: bool,
}

impl Plan {
    /// A plan that begins with the shop's pipeline.
    pub(super) fn applied(name: impl Into<String>) -> Self {
        Self::new(name).then("apply", |estate| {
            estate.write();
            apply(estate, spec());
        })
    }

    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), moves: Vec::new(), begins: None, planted: None, ends_ready: false }
    }

    /// A plan that begins with what others have led to.
    fn from(name: impl Into<String>, estate: &Arc<Estate>) -> Self {
        Self { begins: Some(Arc::clone(estate)), ..Self::new(name) }
    }

    /// Then something happens; rows are written before and after.
    pub(super) fn then(mut self, what: &str, change: impl Fn(&mut Estate) + Send + Sync + 'static) -> Self {
        let change = move |estate: &mut Estate| {
            estate.write();
            change(estate);
            estate.write();
        };
        self.moves.push((what.to_owned(), Arc::new(change)));
        self
    }

    /// Then the spec changes.
    pub(super) fn with(self, what: &str, patch: Value) -> Self {
        self.then(what, move |estate| merge(estate, &patch))
    }

    /// Plants something of somebody else before the first move.
    pub(super) fn beside(mut self, plant: fn(&mut Estate)) -> Self {
        self.planted = Some(plant);
        self
    }

    /// At the end it has to be ready, where `it` does.
    pub(super) fn ready(mut self, it: bool) -> Self {
        self.ends_ready = it;
        self
    }

    /// The estate before the first move.
    pub(super) fn start(&self) -> Estate {
        let mut estate = self.begins.as_deref().map_or_else(Estate::new, Clone::clone);
        if let Some(plant) = self.planted {
            plant(&mut estate);
        }
        estate
    }

    /// I2: what of somebody else is not as it was.
    pub(super) fn foreign(&self, estate: &Estate) -> Vec<String> {
        let Some(plant) = self.planted else { return Vec::new() };
        let (mut with, without) = (Estate::new(), Estate::new());
        plant(&mut with);
        let planted = difference(&normal(&without), &normal(&with));
        let now = normal(estate);
        let gone = |line: &&String| !now.iter().any(|now| line.strip_prefix("+ ") == Some(now));
        planted.iter().filter(gone).map(|line| format!("I2: changed or gone: {line}")).collect()
    }
}

/// A spec of two tables.
pub(super) fn spec() -> Value {
    json!({
        "source": {
            "postgres": {
                "host": POSTGRES, "database": "shop", "credentials": {"secretName": "pg"},
                "tls": {"mode": "Disable"},
            },
            "connect": {"url": CONNECT},
        },
        "kafka": {"bootstrapServers": KAFKA, "topicPrefix": "shop"},
        "tables": [{"name": "public.orders"}, {"name": "public.customers"}],
        "clickhouse": {"url": CLICKHOUSE, "database": "shop", "credentials": {"secretName": "ch"}},
        "views": {"preset": "None"},
    })
}

/// Applies a spec as `kubectl apply` does.
pub(super) fn apply(estate: &mut Estate, spec: Value) {
    match &mut estate.namespace.resource {
        Some(resource) if resource.spec == spec => {}
        Some(resource) => {
            resource.spec = spec;
            resource.generation += 1;
        }
        none => {
            let uid = estate.ids.name("resource");
            *none = Some(Resource {
                uid,
                generation: 1,
                spec,
                last_valid: None,
                annotations: BTreeMap::new(),
                deleting: false,
                finalizer: false,
                status: AnalyticsPipelineStatus::default(),
            });
        }
    }
}

/// A spec with a patch in it; null takes a field away.
fn merged(mut spec: Value, patch: &Value) -> Value {
    let Value::Object(fields) = patch else {
        return patch.clone();
    };
    if !spec.is_object() {
        spec = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(key);
        } else {
            spec[key.as_str()] = merged(spec[key.as_str()].take(), value);
        }
    }
    spec
}

/// Merges a patch into the spec; null takes a field away.
pub(super) fn merge(estate: &mut Estate, patch: &Value) {
    let spec = estate.namespace.resource.as_ref().map_or_else(spec, |resource| resource.spec.clone());
    apply(estate, merged(spec, patch));
}

pub(super) fn delete(estate: &mut Estate) {
    if let Some(resource) = &mut estate.namespace.resource {
        resource.deleting = true;
        resource.generation += 1;
    }
}

fn annotate(estate: &mut Estate, action: &str, text: &str) {
    let resource = estate.namespace.resource.as_mut().unwrap();
    resource.annotations.insert(format!("tidemark.dev/{action}"), text.to_owned());
}

/// What the status says was found of a system, as a person copies it into the annotation.
pub(super) fn accept_what_was_found(estate: &mut Estate) {
    let resource = estate.namespace.resource.as_ref().unwrap();
    let said: Vec<String> = (resource.status.conditions.iter())
        .flat_map(|condition| condition.message.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .map(|word| word.trim_matches(|c: char| ",;:()".contains(c)).to_owned())
        .filter(|word| {
            let systems = ["clickhouse=", "postgres=", "kafka=", "connect=", "cluster=", "timeline="];
            systems.iter().any(|system| word.starts_with(system))
        })
        .collect();
    assert!(!said.is_empty(), "no token is said: {:?}", resource.status.conditions);
    annotate(estate, "accept", &said.join(" "));
}

fn database(estate: &mut Estate) -> &mut Database {
    estate.server().databases.get_mut("shop").unwrap()
}

fn silence(lanes: &'static [Lane]) -> impl Fn(&mut Estate) + Send + Sync {
    move |estate| estate.silent = lanes.iter().copied().collect()
}

const SYSTEMS: [(&str, &[Lane]); 5] = [
    ("clickhouse", &[Lane::ClickHouse]),
    ("postgresql", &[Lane::Postgres]),
    ("kafka", &[Lane::Kafka]),
    ("connect", &[Lane::Connect]),
    ("the API server for objects", &[Lane::Kubernetes]),
];

/// All plans that have names.
pub(super) fn named() -> Vec<Plan> {
    let mut plans = lives::lives();
    plans.extend(lives::deletions());
    plans.extend(lives::outages());
    plans.extend(tables::tables());
    plans.extend(tables::source());
    plans.extend(hands::by_hand());
    plans.extend(hands::by_hand_elsewhere());
    plans.extend(moves::moves());
    plans.extend(foreign::foreign());
    plans.extend(super::dashboards::dashboards());
    plans
}

/// Two moves of the plans that have names at once, chosen by a seed.
pub(super) fn pairs(seed: u64, count: usize) -> Vec<Plan> {
    let plans = named();
    let moves: Vec<(String, &Move)> = (plans.iter())
        .filter(|plan| plan.planted.is_none() && plan.moves[0].0 == "apply")
        // What is done to dashboards needs some.
        .filter(|plan| plan.moves.get(1).is_none_or(|(what, _)| what != "dashboards"))
        .flat_map(|plan| {
            plan.moves[1..].iter().map(|(what, change)| (format!("{}: {what}", plan.name), change))
        })
        // A token is said only once another system was seen.
        .filter(|(what, _)| !what.ends_with("accepted"))
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut chosen = || &moves[random.random_range(0..moves.len())];
    (0..count)
        .map(|_| {
            let ((first, one), (second, other)) = (chosen(), chosen());
            let (one, other) = (Arc::clone(one), Arc::clone(other));
            Plan::applied(format!("{first} + {second}")).then("both", move |estate| {
                one(estate);
                if estate.namespace.resource.is_some() {
                    other(estate);
                }
            })
        })
        .collect()
}
