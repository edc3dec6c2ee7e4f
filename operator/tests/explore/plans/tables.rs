//! Tables come and go, in the spec and at the source.

use serde_json::json;
use tidemark_operator::core::facts::SourceTableFacts;

use super::Plan;
use crate::explore::estate::Estate;
use crate::explore::postgres::table;
use crate::fixture::source_column as column;

pub(super) fn tables() -> Vec<Plan> {
    let all = || json!({"tables": [{"name": "public.orders"}, {"name": "public.customers"}, {"name": "public.items"}]});
    let two = || json!({"tables": [{"name": "public.orders"}, {"name": "public.customers"}]});
    vec![
        Plan::applied("a table comes, goes and comes back")
            .with("comes", all())
            .with("goes", two())
            .with("comes back", all()),
        Plan::applied("a table that is not there")
            .with("named", json!({"tables": [{"name": "public.orders"}, {"name": "public.nothing"}]}))
            .then("made", |estate| {
                let made = table(20_000);
                estate.source().tables.insert("public.nothing".parse().unwrap(), made);
            }),
        Plan::applied("a table that may not be read")
            .then("revoked", |estate| of_source(estate, "public.items", |it| it.may_select = false))
            .with("named", all())
            .then("granted", |estate| of_source(estate, "public.items", |it| it.may_select = true)),
        Plan::applied("another target").with(
            "renamed",
            json!({"tables": [{"name": "public.orders", "target": "sales"}, {"name": "public.customers"}]}),
        ),
        Plan::applied("columns of the spec")
            .with("left out", json!({"tables": [
                {"name": "public.orders", "columns": [{"name": "note", "exclude": true}]}, {"name": "public.customers"}]}))
            .with("wanted again", two())
            .with("another type", json!({"tables": [
                {"name": "public.orders", "columns": [{"name": "note", "type": "LowCardinality(Nullable(String))"}]},
                {"name": "public.customers"}]})),
    ]
}

fn of_source(estate: &mut Estate, table: &str, change: impl Fn(&mut SourceTableFacts)) {
    // Another move may have dropped it.
    if let Some(live) = estate.source().tables.get_mut(&table.parse().unwrap()) {
        change(live);
    }
}

/// The shop changes its tables.
pub(super) fn source() -> Vec<Plan> {
    vec![
        Plan::applied("a column is added and dropped")
            .then("added", |estate| {
                of_source(estate, "public.orders", |it| it.columns.push(column("coupon", 3, "text", true)));
            })
            .then("dropped", |estate| {
                of_source(estate, "public.orders", |it| it.columns.retain(|column| column.name != "coupon"));
            })
            .then("added again", |estate| {
                of_source(estate, "public.orders", |it| {
                    it.columns.push(column("coupon", 4, "integer", true));
                });
            }),
        Plan::applied("a column is renamed and typed anew")
            .then("renamed", |estate| {
                of_source(estate, "public.orders", |it| it.columns[1].name = "remark".into());
            })
            .then("typed", |estate| {
                of_source(estate, "public.orders", |it| it.columns[1].type_name = "integer".into());
            }),
        Plan::applied("a table is dropped and made anew")
            .then("dropped", |estate| {
                estate.source().tables.remove(&"public.orders".parse().unwrap());
                for publication in estate.source().publications.values_mut() {
                    publication.tables.remove(&"public.orders".parse().unwrap());
                }
            })
            .then("made", |estate| {
                let made = table(30_000);
                estate.source().tables.insert("public.orders".parse().unwrap(), made);
            }),
        Plan::applied("a replica identity of nothing")
            .then("nothing", |estate| of_source(estate, "public.orders", |it| it.replica_identity = 'n'))
            .then("the key", |estate| of_source(estate, "public.orders", |it| it.replica_identity = 'd')),
    ]
}
