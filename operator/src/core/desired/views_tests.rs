//! Tests of the views: what is made of them, and when nothing is. Pure.

use std::collections::BTreeSet;

use serde_json::json;
use tidemark_crds::layout::{Begin, ColumnLayout, NullAs, OutOfRange, SourceTable, Storage, Wire};
use tidemark_crds::pipeline::ViewerLogins;

use super::*;
use crate::core::gate::{Gate, System};

fn proof() -> Proof {
    Gate::open().proof(System::ClickHouse).unwrap()
}

const MARK: &str = "tidemark u/ns/shop";

struct Case {
    name: PipelineName,
    viewer: Option<String>,
    views: Views,
    extra_sql: BTreeMap<String, String>,
    layouts: Vec<TableLayout>,
}

fn layout(target: &str, columns: &[&str]) -> TableLayout {
    let columns = columns.iter().zip(1..).map(|(name, attnum)| ColumnLayout {
        source: (*name).into(),
        target: (*name).into(),
        stored: (*name).into(),
        attnum,
        pg_type: "text".into(),
        wire: Wire::Text,
        array: false,
        r#type: "String".parse().unwrap(),
        key: None,
        out_of_range: OutOfRange::DeadLetter,
        missing: None,
        null_as: NullAs::Null,
    });
    TableLayout {
        version: 1,
        source: SourceTable { schema: "public".into(), name: target.into() },
        target: target.into(),
        columns: columns.collect(),
        oid: 1,
        from: Begin::default(),
        left_out: vec![],
        storage: Storage::default(),
        definitions: BTreeMap::new(),
        read_again: None,
        full_before: false,
        partition_by: None,
    }
}

fn shop() -> Case {
    let requires = &ecommerce().requires;
    let columns = |target: &str| requires[target].iter().map(String::as_str).collect::<Vec<_>>();
    Case {
        name: PipelineName::new("ns", "shop"),
        viewer: None,
        views: serde_json::from_value(json!({"preset": "Ecommerce"})).unwrap(),
        extra_sql: BTreeMap::new(),
        layouts: requires.keys().map(|target| layout(target, &columns(target))).collect(),
    }
}

fn extra(sql: &str, materialization: &str) -> Case {
    let views = json!({"extra": [{"name": "mine", "sql": {"inline": sql}, "materialization": {"type": materialization, "every": "1m"}}]});
    Case {
        views: serde_json::from_value(views).unwrap(),
        extra_sql: [("mine".to_owned(), sql.to_owned())].into(),
        ..shop()
    }
}

impl Case {
    fn with<T>(&self, run: impl FnOnce(&ViewsInput<'_>) -> T) -> T {
        let layouts: Vec<&TableLayout> = self.layouts.iter().collect();
        run(&ViewsInput {
            database: "db",
            mark: MARK,
            name: &self.name,
            views: &self.views,
            extra_sql: &self.extra_sql,
            layouts: &layouts,
            has_query_log: true,
            viewer: self.viewer.as_deref().map(|account| Viewer { account, maker: "tidemark" }),
        })
    }

    fn views(&self) -> (Vec<View>, Vec<Problem>) {
        self.with(views)
    }

    #[allow(clippy::needless_pass_by_value, reason = "a call with a made answer reads better")]
    fn plan(&self, facts: &ClickHouseFacts, answer: Probe) -> Part {
        let (all, _) = self.views();
        let answers = all.iter().map(|view| (view.hash.clone(), answer.clone())).collect();
        self.with(|input| steps(input, &all, facts, &answers, &BTreeSet::new(), proof()))
    }
}

fn columns() -> Probe {
    Probe::Columns(vec![("total".into(), "Decimal(38, 2)".into())])
}

fn object(engine: &str, comment: String) -> ClickHouseObject {
    ClickHouseObject { engine: engine.into(), comment, ..ClickHouseObject::default() }
}

#[test]
fn the_preset_is_filled_and_knows_what_it_reads() {
    let (all, problems) = shop().views();
    assert_eq!((all.len(), problems), (28, vec![]));
    for view in &all {
        assert!(!view.select.replace(SELF, "").contains("{{"), "{}", view.name);
    }
    let of = |name: &str| all.iter().find(|view| view.name == name).unwrap();
    assert!(of("order_totals").depends_on.contains(&"orders_current".to_owned()));
    assert!(of("daily_sales_summary").depends_on.contains(&"daily_sales".to_owned()));
    assert!(of("data_freshness").depends_on.contains(&PROGRESS_TABLE.to_owned()));
    insta::assert_snapshot!(of("table_rows").select);
}

#[test]
fn logins_are_hashed_unless_they_are_to_be_shown() {
    let mut case = shop();
    let select = |case: &Case| {
        let (all, _) = case.views();
        all.into_iter().find(|view| view.name == "query_events").unwrap().select
    };
    assert!(select(&case).contains("lower(hex(sipHash64(login))) AS viewer"));
    case.views.ecommerce.viewer_logins = ViewerLogins::Shown;
    assert!(select(&case).contains("toLowCardinality(login) AS viewer"));
}

#[test]
fn a_missing_column_takes_the_views_that_read_it_and_those_on_them_and_no_others() {
    let mut case = shop();
    let items = case.layouts.iter_mut().find(|layout| layout.target == "order_items").unwrap();
    items.columns.retain(|column| column.target != "unit_price");
    let (all, problems) = case.views();
    assert!(problems.iter().all(|problem| problem.reason == Reason::MissingColumns));
    assert!(problems[0].message.contains("order_items.unit_price"), "{problems:?}");
    let names: Vec<&str> = all.iter().map(|view| view.name.as_str()).collect();
    assert!(names.contains(&"hourly_orders_trend") && names.contains(&"recent_activity"), "{names:?}");
    assert!(!names.contains(&"product_performance") && !names.contains(&"top_selling_products"), "{names:?}");
}

#[test]
fn a_plain_view_is_one_statement() {
    let part = extra("SELECT sum(total_amount) AS total FROM orders_current", "View")
        .plan(&ClickHouseFacts::default(), columns());
    insta::assert_debug_snapshot!(part);
}

#[test]
fn a_refreshed_view_is_a_table_a_refresh_and_a_view() {
    let part = extra("SELECT sum(total_amount) AS total FROM orders_current", "Refresh")
        .plan(&ClickHouseFacts::default(), columns());
    insta::assert_debug_snapshot!(part);
}

#[test]
fn the_users_views_run_as_an_account_of_their_own_where_there_is_one() {
    let mut case = extra("SELECT sum(total_amount) AS total FROM orders_current", "Refresh");
    case.views.preset = PresetChoice::Ecommerce;
    let before = case.views().0;
    case.viewer = Some("viewer".into());
    let after = case.views().0;
    for (before, after) in before.iter().zip(&after) {
        let is_users = after.name == "mine";
        assert_eq!(after.definer.is_some(), is_users, "{}", after.name);
        assert_eq!(before.hash != after.hash, is_users, "{}: another account is another view", after.name);
    }
    let made = case.plan(&ClickHouseFacts::default(), columns());
    let definers: BTreeMap<String, Option<String>> = (made.steps.into_iter())
        .filter_map(|step| match step.effect {
            Effect::ClickHouse(ClickHouseEffect::CreateView(view)) => Some((view.name, view.definer)),
            Effect::ClickHouse(ClickHouseEffect::CreateRefresh(it)) => Some((it.view.name, it.view.definer)),
            _ => None,
        })
        .collect();
    // What asks for the right to make tables runs as the operator's account, and reads what runs as the other one.
    for (name, definer) in definers {
        assert_eq!(definer.is_some(), name == "mine__source", "{name}");
    }
    let denied = case.plan(&ClickHouseFacts::default(), Probe::Denied("Not enough privileges".into()));
    let problem = denied.problems.iter().find(|problem| problem.object == "mine").unwrap();
    assert_eq!(problem.reason, Reason::PermissionDenied);
    for grant in
        ["GRANT SELECT ON `db`.`orders_current` TO `viewer`", "GRANT SET DEFINER ON `viewer` TO `tidemark`"]
    {
        assert!(problem.message.contains(grant), "{}", problem.message);
    }
}

#[test]
fn the_source_of_a_refresh_follows_its_text_and_goes_with_the_account() {
    let what = |case: &Case, facts: &ClickHouseFacts| -> Vec<String> {
        case.plan(facts, columns()).steps.into_iter().map(|step| step.what).collect()
    };
    let mut case = extra("SELECT sum(total_amount) AS total FROM orders_current", "Refresh");
    case.viewer = Some("viewer".into());
    let hash = case.views().0[0].hash.clone();
    let with = |engine: &str, hash: &str| ClickHouseObject {
        columns: vec![("total".into(), "Decimal(38, 2)".into())],
        ..object(engine, format!("{MARK} {hash}"))
    };
    let mut facts = ClickHouseFacts::default();
    for (name, engine) in [
        ("mine", "View"),
        ("mine__source", "View"),
        ("mine__refresh", "MaterializedView"),
        ("mine__2b5e83f5", "MergeTree"),
    ] {
        facts.objects.insert(name.into(), with(engine, &hash));
    }
    assert_eq!(what(&case, &facts), Vec::<String>::new());
    // The text changed, and the refresh that reads the former one is gone: the new one is there before it.
    facts.objects.insert("mine".into(), with("View", "00000000"));
    facts.objects.insert("mine__source".into(), with("View", "00000000"));
    let refresh = facts.objects.remove("mine__refresh").unwrap();
    let steps = what(&case, &facts);
    let at = |step: &str| steps.iter().position(|it| it == step);
    assert!(at("replace view mine__source") < at("create the refresh of view mine"), "{steps:?}");
    assert!(at("replace view mine__source").is_some(), "{steps:?}");
    // Somebody else's is not replaced.
    facts.objects.insert("mine__source".into(), object("View", "theirs".into()));
    let part = case.plan(&facts, columns());
    assert_eq!((part.steps.len(), part.problems[0].reason), (0, Reason::Conflict));

    case.viewer = None;
    let own = case.views().0[0].hash.clone();
    for name in ["mine", "mine__2b5e83f5"] {
        facts.objects.get_mut(name).unwrap().comment = format!("{MARK} {own}");
    }
    facts
        .objects
        .insert("mine__refresh".into(), ClickHouseObject { comment: format!("{MARK} {own}"), ..refresh });
    facts.objects.insert("mine__source".into(), with("View", &hash));
    assert_eq!(what(&case, &facts), ["drop view mine__source"]);
    // A view of the user's with such a name is refused while the other is there.
    let other = serde_json::from_value(json!({"name": "mine__source", "sql": {"inline": "SELECT 1 AS one"}}));
    case.views.extra.push(other.unwrap());
    case.extra_sql.insert("mine__source".into(), "SELECT 1 AS one".into());
    assert_eq!(case.views().1[0].object, "mine__source");
    assert_eq!(what(&case, &facts), Vec::<String>::new());
}

#[test]
fn a_refused_view_is_named_and_the_others_go_on() {
    let case = extra("SELECT nope FROM orders_current", "View");
    let part = case.plan(&ClickHouseFacts::default(), Probe::Refused("unknown identifier nope".into()));
    assert_eq!((part.steps.len(), part.problems[0].reason), (0, Reason::InvalidView));
    assert_eq!(part.problems[0].object, "mine");
}

#[test]
fn an_unchanged_view_is_never_written_again_and_one_whose_column_changed_is() {
    let mut case = extra("SELECT sum(total_amount) AS total FROM orders_current", "View");
    let hash = case.views().0[0].hash.clone();
    let mut facts = ClickHouseFacts::default();
    facts.objects.insert("mine".into(), object("View", format!("{MARK} {hash}")));
    assert_eq!(case.plan(&facts, columns()), Part::default());
    let orders = case.layouts.iter_mut().find(|layout| layout.target == "orders").unwrap();
    orders.columns.push(layout("x", &["note"]).columns[0].clone());
    assert_eq!(case.plan(&facts, columns()), Part::default(), "a column that the view does not read");
    let orders = case.layouts.iter_mut().find(|layout| layout.target == "orders").unwrap();
    let total = orders.columns.iter_mut().find(|column| column.target == "total_amount").unwrap();
    total.r#type = "Int64".parse().unwrap();
    assert_eq!(case.plan(&facts, columns()).steps[0].what, "replace view mine");
}

#[test]
fn a_replaced_refresh_keeps_the_old_rows_until_the_new_table_was_filled() {
    let case = extra("SELECT sum(total_amount) AS total FROM orders_current", "Refresh");
    let hash = case.views().0[0].hash.clone();
    let mut facts = ClickHouseFacts::default();
    facts.objects.insert("mine".into(), object("View", format!("{MARK} 00000000")));
    facts.objects.insert("mine__refresh".into(), object("MaterializedView", format!("{MARK} 00000000")));
    let what = |facts: &ClickHouseFacts| -> Vec<String> {
        case.plan(facts, columns()).steps.into_iter().map(|step| step.what).collect()
    };
    assert!(what(&facts).iter().any(|step| step.contains("drop the refresh")));
    facts.objects.insert("mine__refresh".into(), object("MaterializedView", format!("{MARK} {hash}")));
    assert!(!what(&facts).iter().any(|step| step.contains("replace view")));
    let filled = crate::core::facts::RefreshFacts { last_success_ms: 5, ..Default::default() };
    facts.refreshes.insert("mine__refresh".into(), filled);
    assert!(what(&facts).iter().any(|step| step == "replace view mine"));
}

#[test]
fn the_table_that_a_view_shows_stays_and_that_of_its_former_columns_goes() {
    let case = extra("SELECT sum(total_amount) AS total FROM orders_current", "Refresh");
    let hash = case.views().0[0].hash.clone();
    let with = |engine: &str, hash: &str, kind: &str| ClickHouseObject {
        columns: vec![("total".into(), kind.into())],
        ..object(engine, format!("{MARK} {hash}"))
    };
    let mut facts = ClickHouseFacts::default();
    facts.objects.insert("mine".into(), with("View", &hash, "Decimal(38, 2)"));
    facts.objects.insert("mine__refresh".into(), object("MaterializedView", format!("{MARK} {hash}")));
    facts.objects.insert("mine__2b5e83f5".into(), with("MergeTree", &hash, "Decimal(38, 2)"));
    facts.objects.insert("mine__0a1b2c3d".into(), with("MergeTree", "00000000", "Int64"));
    let what = |case: &Case, facts: &ClickHouseFacts| -> Vec<String> {
        case.plan(facts, columns()).steps.into_iter().map(|step| step.what).collect()
    };
    assert_eq!(what(&case, &facts), ["drop table mine__0a1b2c3d"]);
    // Until the view is replaced it shows a table of which nothing is known.
    facts.objects.insert("mine".into(), with("View", "00000000", "Int64"));
    assert!(what(&case, &facts).iter().all(|step| !step.starts_with("drop table")));
    // The same columns without a table: nothing that was filled is shown any more.
    let plain = extra("SELECT sum(total_amount) AS total FROM orders_current", "View");
    let hash = plain.views().0[0].hash.clone();
    facts.objects.insert("mine".into(), with("View", &hash, "Decimal(38, 2)"));
    let left = ["drop view mine__refresh", "drop table mine__0a1b2c3d", "drop table mine__2b5e83f5"];
    assert_eq!(what(&plain, &facts), left);
}

#[test]
fn the_history_of_a_view_goes_along_when_its_columns_change() {
    let case = shop();
    let (all, _) = case.views();
    let view = all.iter().find(|view| view.name == "query_events").unwrap();
    let column = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    let (at, id) = (column("at", "DateTime64(6)"), column("query_id", "String"));
    let now = vec![column("source", "String"), at.clone(), id.clone(), column("viewer", "String")];
    let before =
        vec![at.clone(), id.clone(), column("viewer", "LowCardinality(String)"), column("gone", "UInt8")];
    let table = |columns: &[(String, String)]| ClickHouseObject {
        columns: columns.to_vec(),
        ..object("MergeTree", format!("{MARK} 00000000"))
    };
    let mut facts = ClickHouseFacts::default();
    for name in &view.depends_on {
        facts.objects.insert(name.clone(), object("View", MARK.into()));
    }
    let carried = |facts: &ClickHouseFacts, columns: &[(String, String)]| {
        let answers = [(view.hash.clone(), Probe::Columns(columns.to_vec()))].into();
        let held = BTreeSet::new();
        let part =
            case.with(|input| steps(input, std::slice::from_ref(view), facts, &answers, &held, proof()));
        assert!(
            part.steps.iter().all(|step| !step.what.starts_with("drop table query_events__")),
            "{part:?}"
        );
        let step =
            part.steps.into_iter().find(|step| step.what.starts_with("create table query_events__")).unwrap();
        match step.effect {
            Effect::ClickHouse(ClickHouseEffect::CarryOver(table)) => {
                assert!(step.what.ends_with(&format!(" with the rows of {}", table.from)), "{}", step.what);
                Some((table.from, table.without, table.with))
            }
            Effect::ClickHouse(ClickHouseEffect::CreateTable(_)) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(carried(&facts, &now), None, "there is none");
    let others = ClickHouseObject { comment: "tidemark u/ns/other 1".into(), ..table(&before) };
    facts.objects.insert("query_events__00000000".into(), others);
    assert_eq!(carried(&facts, &now), None, "it is another pipeline's");
    facts.objects.insert("query_events__0a1b2c3d".into(), table(&before));
    facts.objects.insert("query_events__ffffffff".into(), table(&[at.clone(), id.clone()]));
    let shown = ClickHouseObject { columns: before.clone(), ..object("View", format!("{MARK} 00000000")) };
    facts.objects.insert("query_events".into(), shown);
    let (from, without, with) = carried(&facts, &now).unwrap();
    assert_eq!(
        (from.as_str(), without),
        ("query_events__0a1b2c3d", vec!["viewer".to_owned(), "gone".to_owned()])
    );
    let with: Vec<(&str, Option<&str>)> =
        with.iter().map(|(column, before)| (column.name.as_str(), before.as_deref())).collect();
    assert_eq!(
        with,
        [("source", None), ("viewer", Some("query_id"))],
        "a type that changed is another column"
    );
    assert_eq!(carried(&facts, &[at, column("query_id", "UInt64")]), None, "rows are sorted by another key");
}

#[test]
fn marked_views_that_nobody_wants_are_dropped_and_others_are_not() {
    let mut facts = ClickHouseFacts::default();
    facts.objects.insert("gone".into(), object("View", format!("{MARK} 00000000")));
    facts.objects.insert("theirs".into(), object("View", String::new()));
    facts.objects.insert("orders".into(), object("ReplacingMergeTree", MARK.into()));
    facts.objects.insert("orders_current".into(), object("View", format!("{MARK} 00000000")));
    let part = extra("SELECT 1 AS one", "View").plan(&facts, Probe::Refused(String::new()));
    let what: Vec<&str> = part.steps.iter().map(|step| step.what.as_str()).collect();
    assert_eq!(what, ["drop view gone"]);
    assert_eq!(drop_all("db", MARK, &facts, Policy::Retain, proof()).len(), 2);
    facts.objects.insert("query_events__0a1b2c3d".into(), object("MergeTree", MARK.into()));
    facts.objects.insert("daily_sales_summary__0a1b2c3d".into(), object("MergeTree", MARK.into()));
    assert_eq!(drop_all("db", MARK, &facts, Policy::Retain, proof()).len(), 3, "ninety days of queries stay");
    assert_eq!(drop_all("db", MARK, &facts, Policy::Delete, proof()).len(), 4);
}

#[test]
fn a_name_that_is_taken_and_a_date_without_a_zone_are_refused() {
    let mut case = extra("SELECT toDate(created_at) AS day FROM orders_current", "View");
    assert_eq!(case.views().1[0].reason, Reason::InvalidView);
    case = extra("SELECT 1 AS one", "View");
    case.views.extra[0].name = "orders_current".into();
    case.extra_sql = [("orders_current".to_owned(), "SELECT 1 AS one".to_owned())].into();
    assert_eq!(case.views().1[0].reason, Reason::InvalidView);
}

#[test]
fn a_state_table_is_never_replaced_by_a_view() {
    let case = extra("SELECT 1 AS one", "View");
    let mut facts = ClickHouseFacts::default();
    facts.objects.insert("mine".into(), object("ReplacingMergeTree", MARK.into()));
    let part = case.plan(&facts, columns());
    assert!(part.steps.is_empty(), "{:?}", part.steps);
    assert_eq!((part.problems[0].object.as_str(), part.problems[0].reason), ("mine", Reason::Conflict));
    let case = extra("SELECT 1 AS one", "Refresh");
    let mut facts = ClickHouseFacts::default();
    facts.objects.insert("mine__refresh".into(), object("ReplacingMergeTree", MARK.into()));
    let part = case.plan(&facts, columns());
    assert!(part.steps.is_empty(), "{:?}", part.steps);
    assert_eq!((part.problems[0].object.as_str(), part.problems[0].reason), ("mine", Reason::Conflict));
}

#[test]
fn a_view_of_the_preset_gives_way_to_a_table_that_was_there() {
    let mut case = shop();
    case.layouts.push(layout("daily_sales_summary", &["id"]));
    let (all, problems) = case.views();
    assert!(all.iter().all(|view| view.name != "daily_sales_summary"));
    assert!(
        problems
            .iter()
            .any(|problem| problem.object == "daily_sales_summary" && problem.reason == Reason::Conflict)
    );
}
