//! Where dashboards are: remembered, left clean when the spec names another place, and never mistaken for another.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidemark_crds::ledger::GrafanaRecord;
use tidemark_crds::pipeline::{AnalyticsPipelineSpec, Policy};
use tidemark_operator::core::desired::grafana::place;
use tidemark_operator::core::desired::grafana::place::Leaving;
use tidemark_operator::core::desired::grafana::{Names, source_fact};
use tidemark_operator::core::effect::Effect;
use tidemark_operator::core::facts::{FolderFacts, GrafanaFacts, LedgerFacts, Observation, Observed};
use tidemark_operator::core::finalize::{desire, is_clean, left_behind, waiting};
use tidemark_operator::core::plan::Plan;
use tidemark_operator::core::step::{Fact, Lane, Step};

use crate::fixture::{Fixture, fixture, unreachable};

const MARK: &str = "tidemark uid/shop/shop";

fn spec_at(fixture: &Fixture, url: &str) -> AnalyticsPipelineSpec {
    let mut spec = fixture.spec.clone();
    let grafana = json!({
        "url": url, "credentials": {"secretName": "grafana", "tokenKey": "token"}, "reader": {"secretName": "reader"},
    });
    spec.grafana = Some(serde_json::from_value(grafana).unwrap());
    spec
}

/// The ledger of a pipeline that has dashboards at some addresses.
fn ledger(fixture: &Fixture, urls: &[&str]) -> LedgerFacts {
    let record = |url: &&str| {
        let place = place::current(&spec_at(fixture, url)).unwrap();
        (place.key, place.record)
    };
    LedgerFacts { grafanas: urls.iter().map(record).collect(), ..LedgerFacts::default() }
}

/// A Grafana with a folder, a dashboard and a data source of ours, which says which place it belongs to.
fn full(fixture: &Fixture, url: &str) -> GrafanaFacts {
    let names = Names::new(&fixture.name, MARK);
    let key = place::current(&spec_at(fixture, url)).unwrap().key;
    GrafanaFacts {
        version: "12.4.0".into(),
        folder: Some(FolderFacts { id: 1, title: "Shop analytics".into(), version: Some(1) }),
        source: Some(json!({"jsonData": {"tidemark": {"mark": MARK, "place": key}}})),
        tagged: [(names.dashboard("executive"), names.tags.clone())].into(),
        ..GrafanaFacts::default()
    }
}

/// What leaving the first place of the ledger asks for: steps, and the messages of problems.
fn leave(
    spec: &AnalyticsPipelineSpec,
    ledger: &LedgerFacts,
    seen: &Observation<GrafanaFacts>,
) -> (Vec<Step>, Vec<String>) {
    let names = Names::new(&fixture().name, MARK);
    let place = place::former(spec, ledger).unwrap();
    let part = Leaving { spec, names: &names, mark: MARK, ledger }.former(&place, seen);
    (part.steps, part.problems.into_iter().map(|problem| problem.message).collect())
}

fn forgets(steps: &[Step]) -> bool {
    matches!(steps, [Step { effect: Effect::Ledger { value: Value::Null, .. }, .. }])
}

#[test]
fn a_place_is_written_down_before_anything_is_made_there_and_then_never_again() {
    let fixture = fixture();
    let spec = spec_at(&fixture, "http://grafana:3000/");
    assert_eq!(
        place::remember(&spec, &LedgerFacts::default(), None),
        None,
        "an address where nothing answers"
    );
    let step = place::remember(&spec, &LedgerFacts::default(), Some(&GrafanaFacts::default())).unwrap();
    assert_eq!(step.gives, Some(place::fact()));
    let known = ledger(&fixture, &["http://grafana:3000"]);
    assert_eq!(place::remember(&spec, &known, None), None);
    assert_eq!(place::former(&spec, &known), None);
    // A ledger row names the Secret, and never what is in it.
    let Effect::Ledger { value, .. } = step.effect else { panic!("not a row of the ledger") };
    let record: GrafanaRecord = serde_json::from_value(value).unwrap();
    assert_eq!(record.credentials.secret_name, "grafana");
}

#[test]
fn a_new_title_is_written_down_once_the_folder_has_it() {
    let fixture = fixture();
    let mut spec = spec_at(&fixture, "http://grafana:3000");
    spec.grafana.as_mut().unwrap().folder = "Another".into();
    let known = ledger(&fixture, &["http://grafana:3000"]);
    let mut seen = full(&fixture, "http://grafana:3000");
    assert_eq!(place::remember(&spec, &known, Some(&seen)), None);
    seen.folder.as_mut().unwrap().title = "Another".into();
    assert!(place::remember(&spec, &known, Some(&seen)).is_some());
}

#[test]
fn a_place_that_is_no_longer_named_is_emptied_and_then_forgotten() {
    let fixture = fixture();
    let known = ledger(&fixture, &["http://old:3000"]);
    let (steps, problems) =
        leave(&fixture.spec, &known, &Observation::Known(full(&fixture, "http://old:3000")));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(steps.len(), 2, "a dashboard and the data source; the folder when they are gone: {steps:?}");
    assert!(steps.iter().all(|step| step.lane() == Lane::FormerGrafana && step.needs.is_empty()));
    let (steps, _) = leave(&fixture.spec, &known, &Observation::Known(GrafanaFacts::default()));
    assert!(forgets(&steps), "{steps:?}");
}

#[test]
fn a_new_place_comes_before_the_old_one_goes() {
    let fixture = fixture();
    let known = ledger(&fixture, &["http://old:3000", "http://new:3000"]);
    let spec = spec_at(&fixture, "http://new:3000");
    let (steps, _) = leave(&spec, &known, &Observation::Known(full(&fixture, "http://old:3000")));
    assert!(steps.len() == 2 && steps.iter().all(|step| step.needs == [source_fact()]), "{steps:?}");
}

#[test]
fn another_address_of_the_same_server_removes_nothing() {
    let fixture = fixture();
    let known = ledger(&fixture, &["http://old:3000", "http://new:3000"]);
    let spec = spec_at(&fixture, "http://new:3000");
    // The data source says that it belongs to the new place: the old address leads there too.
    let (steps, _) = leave(&spec, &known, &Observation::Known(full(&fixture, "http://new:3000")));
    assert!(forgets(&steps), "{steps:?}");
}

#[test]
fn a_place_that_gives_no_answer_is_named_with_the_way_out() {
    let fixture = fixture();
    let known = ledger(&fixture, &["http://old:3000"]);
    for seen in [unreachable(), Observation::NotAsked] {
        let (steps, problems) = leave(&fixture.spec, &known, &seen);
        assert!(steps.is_empty() && problems[0].contains("http://old:3000"), "{problems:?}");
        assert!(problems[0].contains("spec.deletionPolicy.grafana"), "{problems:?}");
    }
    let (steps, problems) = leave(&fixture.spec, &known, &Observation::Absent);
    assert!(steps.is_empty() && problems[0].contains("is not used"), "{problems:?}");
    let mut retain = fixture.spec.clone();
    retain.deletion_policy.grafana = Policy::Retain;
    assert!(forgets(&leave(&retain, &known, &unreachable()).0));
}

#[test]
fn a_login_is_for_the_address_that_a_spec_named_it_for_and_the_ledger_is_no_proof_of_that() {
    let fixture = fixture();
    let spec = spec_at(&fixture, "http://old:3000");
    let known = place::places(&[], &spec, Some(&ledger(&fixture, &["http://old:3000"])));
    let record = |url: &str| place::current(&spec_at(&fixture, url)).unwrap().record;
    assert_eq!(known, [place::kept(&record("http://old:3000"))]);
    // The spec names another; what is left at the old place is remembered until the ledger has it no more.
    let new = spec_at(&fixture, "http://new:3000");
    let both = ["http://old:3000", "http://new:3000"];
    let later = place::places(&known, &new, Some(&ledger(&fixture, &both)));
    assert_eq!(later.len(), 2);
    assert_eq!(place::places(&later, &new, None), later, "what is not known forgets nothing");
    assert_eq!(place::places(&later, &new, Some(&ledger(&fixture, &["http://new:3000"]))).len(), 1);
    // Others write rows too: another address, another Secret, another key of it.
    assert!(!later.contains(&place::kept(&record("http://evil:3000"))));
    let mut another = record("http://old:3000");
    another.credentials.secret_name = "bank".into();
    assert!(!later.contains(&place::kept(&another)));
    let row = ledger(&fixture, &["http://evil:3000"]);
    assert_eq!(place::places(&later, &new, Some(&row)).len(), 1, "a row makes no place known");
}

#[test]
fn what_others_put_into_the_folder_keeps_it() {
    let fixture = fixture();
    let known = ledger(&fixture, &["http://old:3000"]);
    let folder = full(&fixture, "http://old:3000").folder;
    let empty = GrafanaFacts { folder, ..GrafanaFacts::default() };
    let goes = |facts: GrafanaFacts| {
        let (steps, _) = leave(&fixture.spec, &known, &Observation::Known(facts));
        steps[0].what.contains("delete the folder")
    };
    assert!(goes(empty.clone()));
    assert!(!goes(GrafanaFacts { has_subfolders: true, ..empty.clone() }));
    assert!(!goes(GrafanaFacts { titles: [("theirs".into(), "uid".into())].into(), ..empty }));
}

#[test]
fn a_deletion_waits_for_a_former_place_and_names_it_when_time_is_up() {
    let fixture = fixture();
    let mut observed = Observed { former_grafana: unreachable(), ..fixture.running() };
    if let Observation::Known(facts) = &mut observed.clickhouse {
        facts.ledger = ledger(&fixture, &["http://old:3000"]);
    }
    let subject = fixture.subject();
    let desired = desire(&subject, &observed);
    let plan = Plan::new(desired.steps, BTreeSet::<Fact>::new(), BTreeSet::new());
    assert!(!is_clean(&subject, &[], &observed));
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    assert!(
        waiting(&subject, &subject.gate(&observed), &observed, (&plan, &[]), now)
            .iter()
            .any(|wait| wait.system == "former-grafana")
    );
    // A login that is not used now is not used later either.
    let refused = Observed { former_grafana: Observation::Absent, ..observed.clone() };
    let waits = waiting(&subject, &subject.gate(&refused), &refused, (&plan, &[]), now);
    assert!(waits.iter().all(|wait| wait.system != "former-grafana"), "{waits:?}");
    let left = left_behind(&subject, &subject.gate(&observed), &observed, plan.steps());
    assert!(
        left.iter().any(|left| left.lane == Lane::FormerGrafana && left.command.contains("http://old:3000"))
    );
}
