//! Plans that nobody thought of: each field of the spec is changed, taken away and given back, at rest and in the middle of
//! the first set-up, and before a deletion; and each policy of a deletion is carried out from each place to begin at.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use tidemark_crds::pipeline::AnalyticsPipeline;
use tidemark_operator::core::admission;
use tidemark_operator::core::step::Lane;

use super::{Plan, SYSTEMS, apply, delete, merge, merged, silence, spec};
use crate::explore::dashboards::shown;
use crate::explore::estate::Estate;
use crate::explore::leaves;
use crate::explore::shell::Operator;
use crate::explore::world::Model;

/// Places in the middle of the first set-up from which a field is changed, and a deletion begins.
const PLACES: usize = 3;

/// A first set-up.
struct Begun {
    /// The spec that it ends with.
    spec: Value,
    /// The estate before each write of its last move.
    amid: Vec<Arc<Estate>>,
    /// The estate at its end.
    rest: Arc<Estate>,
}

/// With and without a Grafana.
static BARE: LazyLock<Begun> = LazyLock::new(|| begun(&Plan::applied("a first set-up")));
static SHOWN: LazyLock<Begun> = LazyLock::new(|| begun(&shown("a first set-up with dashboards")));

fn begun(plan: &Plan) -> Begun {
    let (model, operator) = (&mut Model::new(plan.start()), Operator::new());
    model.inner().keeps = true;
    for (_, change) in &plan.moves {
        model.inner().acts.clear();
        change(&mut model.inner().estate);
        operator.rest(model).expect("a first set-up comes to rest");
    }
    let mut inner = model.inner();
    let acts = std::mem::take(&mut inner.acts);
    let rest = inner.estate.clone();
    let spec = rest.namespace.resource.as_ref().map_or(Value::Null, |live| live.spec.clone());
    Begun {
        spec,
        amid: acts.into_iter().filter_map(|act| act.before).map(|it| Arc::new(*it)).collect(),
        rest: Arc::new(rest),
    }
}

impl Begun {
    /// Another place for each number.
    fn amid(&self, number: usize) -> Arc<Estate> {
        Arc::clone(&self.amid[number % self.amid.len()])
    }
}

/// Whether the API server takes a spec in the place of another one.
fn is_taken(spec: &Value, before: &Value) -> bool {
    let object = |spec: &Value| {
        json!({
            "apiVersion": "tidemark.dev/v1alpha1", "kind": "AnalyticsPipeline",
            "metadata": {"name": "shop", "namespace": "shop"}, "spec": spec,
        })
    };
    let object = (object(spec), object(before));
    serde_json::from_value::<AnalyticsPipeline>(object.0.clone()).is_ok()
        && admission::check(&object.0, Some(&object.1)).is_empty()
}

/// A spec without a field, or without the list that has it; `None`: it has none.
fn without(spec: &Value, path: &str) -> Option<Value> {
    let path = path.trim_start_matches('.').split("[]").next().unwrap_or_default();
    let mut spec = spec.clone();
    let (parents, field) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = parents
        .split('.')
        .filter(|part| !part.is_empty())
        .try_fold(&mut spec, |at, part| at.get_mut(part))?;
    parent.as_object_mut()?.remove(field)?;
    Some(spec)
}

/// All of them, each time the same.
pub(in crate::explore) fn generated() -> Vec<Plan> {
    let mut plans: Vec<Plan> = leaves::changes()
        .enumerate()
        .flat_map(|(number, (path, patch))| of_leaf(number, path, &patch))
        .collect();
    plans.extend(deletions());
    plans
}

fn put(spec: &Value) -> impl Fn(&mut Estate) + Send + Sync + use<> {
    let spec = spec.clone();
    move |estate| apply(estate, spec.clone())
}

/// What becomes of one field.
fn of_leaf(number: usize, leaf: &str, patch: &Value) -> Vec<Plan> {
    let begun: &Begun = if leaf.starts_with(".grafana") { &SHOWN } else { &BARE };
    let base = &begun.spec;
    let may = |to: &Value, from: &Value| to != from && is_taken(to, from) && is_taken(from, to);
    let changed = Some(merged(base.clone(), patch)).filter(|changed| may(changed, base));
    let gone = without(base, leaf).filter(|gone| may(gone, base));
    let gone_again = changed.as_ref().and_then(|changed| without(changed, leaf)).filter(|gone| {
        changed.as_ref().is_some_and(|changed| is_taken(gone, changed)) && is_taken(base, gone)
    });
    let mut plans = Vec::new();
    let ready = |plan: Plan| plan.then("given back", put(base)).ready(true);
    if let Some(changed) = &changed {
        plans.push(ready(Plan::from(format!("{leaf} changed"), &begun.rest).then("changed", put(changed))));
        for place in 0..PLACES {
            let estate = begun.amid(number * 5 + place * begun.amid.len() / PLACES);
            let name = format!("{leaf} changed amid the set-up ({})", place + 1);
            plans.push(ready(Plan::from(name, &estate).then("changed", put(changed))));
        }
        let ended = Plan::from(format!("{leaf} changed before the end"), &begun.rest);
        plans.push(ended.then("changed", put(changed)).then("delete", delete).then("apply again", put(base)));
        let at_once = Plan::from(format!("{leaf} changed with the end"), &begun.rest);
        let changed = changed.clone();
        plans.push(
            at_once
                .then("changed and deleted", move |estate| {
                    apply(estate, changed.clone());
                    delete(estate);
                })
                .then("apply again", put(base)),
        );
    }
    if let Some(gone) = &gone {
        plans
            .push(ready(Plan::from(format!("{leaf} taken away"), &begun.rest).then("taken away", put(gone))));
        let estate = begun.amid(number * 3 + 1);
        let name = format!("{leaf} taken away amid the set-up");
        plans.push(ready(Plan::from(name, &estate).then("taken away", put(gone))));
    }
    if let (Some(changed), Some(gone)) = (&changed, &gone_again) {
        let plan =
            Plan::from(format!("{leaf} changed, then taken away"), &begun.rest).then("changed", put(changed));
        plans.push(ready(plan.then("taken away", put(gone))));
        let estate = begun.amid(number * 7 + 2);
        let name = format!("{leaf} changed amid the set-up, then taken away");
        plans.push(ready(
            Plan::from(name, &estate).then("changed", put(changed)).then("taken away", put(gone)),
        ));
    }
    plans
}

/// Where a deletion begins: its name, the set-up, and what happened before.
type Beginning = (String, Arc<Estate>, Box<dyn Fn(&mut Estate) + Send + Sync>);

/// Every policy from every place.
fn deletions() -> Vec<Plan> {
    let mut beginnings: Vec<Beginning> = Vec::new();
    let mut begin = |name: &str, estate: Arc<Estate>, change: Box<dyn Fn(&mut Estate) + Send + Sync>| {
        beginnings.push((name.to_owned(), estate, change));
    };
    let patch = |patch: Value| -> Box<dyn Fn(&mut Estate) + Send + Sync> {
        Box::new(move |estate| merge(estate, &patch))
    };
    let nothing = || patch(json!({}));
    begin("from nothing", Arc::new(Estate::new()), Box::new(|estate| apply(estate, spec())));
    for place in 0..PLACES {
        let amid = |begun: &Begun| begun.amid((2 * place + 1) * begun.amid.len() / (2 * PLACES));
        begin(&format!("amid the set-up ({})", place + 1), amid(&BARE), nothing());
        begin(&format!("amid the set-up of dashboards ({})", place + 1), amid(&SHOWN), nothing());
    }
    begin("with dashboards", Arc::clone(&SHOWN.rest), nothing());
    begin(
        "with dashboards, and Grafana is away",
        Arc::clone(&SHOWN.rest),
        Box::new(silence(&[Lane::Grafana])),
    );
    begin("suspended", Arc::clone(&BARE.rest), patch(json!({"suspend": true})));
    begin("paused", Arc::clone(&BARE.rest), patch(json!({"source": {"connect": {"state": "Paused"}}})));
    begin("without a sink", Arc::clone(&BARE.rest), patch(json!({"sink": {"replicas": 0}})));
    begin("with an invalid spec", Arc::clone(&BARE.rest), patch(json!({"freshness": {"rows": "soon"}})));
    begin(
        "with a table more",
        Arc::clone(&BARE.rest),
        patch(json!({"tables": [
            {"name": "public.orders"}, {"name": "public.customers"}, {"name": "public.items"},
        ]})),
    );
    let lost = |estate: &mut Estate| estate.source().slots.values_mut().for_each(|slot| slot.lost = true);
    begin("with a lost slot", Arc::clone(&BARE.rest), Box::new(lost));
    for (system, lanes) in SYSTEMS {
        begin(&format!("while {system} is away"), Arc::clone(&BARE.rest), Box::new(silence(lanes)));
    }
    let mut plans = Vec::new();
    for (name, estate, change) in beginnings {
        let change: Arc<dyn Fn(&mut Estate) + Send + Sync> = change.into();
        for bits in 0..32_u32 {
            let word = |bit: u32| if bits & (1 << bit) == 0 { "Retain" } else { "Delete" };
            let policy = json!({"deletionPolicy": {
                "clickhouse": word(0), "connector": word(1), "replicationSlot": word(2), "topics": word(3),
                "grafana": word(4), "timeout": "1m",
            }});
            let has_grafana = name.contains("dashboards");
            if !has_grafana && bits >= 16 {
                continue;
            }
            let change = Arc::clone(&change);
            let plan = Plan::from(format!("deleted by policy {bits:05b} {name}"), &estate);
            plans.push(
                plan.then("delete", move |estate| {
                    change(estate);
                    merge(estate, &policy);
                    delete(estate);
                })
                .then("everything answers", |estate| estate.silent.clear())
                .then("apply again", |estate| apply(estate, spec())),
            );
        }
    }
    plans
}
