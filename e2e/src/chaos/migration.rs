//! Changes of the tables themselves while they are written. Pure.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::table::{Column, Table, Type};
use crate::cases::quoted;

/// Names that columns are given; some are in use already, by then.
const NAMES: [&str; 6] = ["a", "b", "c", "Odd \"name\"", "größe", "note"];
/// A table with more columns than this gets no more.
const MANY: usize = 9;

/// A change of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Migration {
    /// What it is called in the report.
    pub(super) kind: &'static str,
    /// One or more statements; those of one transaction begin it themselves.
    pub(super) statements: String,
}

/// Draws a change; `number` is another one each time.
pub(super) fn draw(table: &Table, number: u32, random: &mut StdRng) -> Migration {
    let own = table.kind.quoted();
    let is = |kind, statements| Migration { kind, statements };
    let free = NAMES
        .iter()
        .find(|name| table.columns.iter().all(|column| column.name != **name))
        .map_or_else(|| quoted(&format!("c{number}")), |name| quoted(name));
    let add = |random: &mut StdRng| {
        let kind = Type::any(random);
        let (name, value) = (kind.name(), kind.value(random));
        match random.random_range(0..3) {
            0 => is("a column is added", format!("ALTER TABLE {own} ADD COLUMN {free} {name}")),
            1 => is(
                "a column with a default is added",
                format!("ALTER TABLE {own} ADD COLUMN {free} {name} NOT NULL DEFAULT {value}"),
            ),
            _ => is(
                "a column with another value in each row is added",
                format!("ALTER TABLE {own} ADD COLUMN {free} uuid NOT NULL DEFAULT gen_random_uuid()"),
            ),
        }
    };
    let Some(column) = table.columns.choose(random) else { return add(random) };
    let name = quoted(&column.name);
    match random.random_range(0..12) {
        0..=2 if table.columns.len() < MANY => add(random),
        3 => is("a column is dropped", format!("ALTER TABLE {own} DROP COLUMN {name}")),
        4 => is("a column is renamed", format!("ALTER TABLE {own} RENAME {name} TO {free}")),
        5 => is(
            "a column is renamed, and its old name is another's",
            format!(
                "BEGIN; ALTER TABLE {own} RENAME {name} TO {free}; ALTER TABLE {own} ADD {name} {}; COMMIT",
                column.kind.name()
            ),
        ),
        6 => is(
            "a column is dropped and added again",
            format!(
                "BEGIN; ALTER TABLE {own} DROP {name}; ALTER TABLE {own} ADD {name} {}; COMMIT",
                column.kind.name()
            ),
        ),
        7 => swapped(table, column, random),
        8 => retyped(&own, column),
        9 if table.kind.any_identity => {
            let to = ["FULL", "DEFAULT"].choose(random).unwrap_or(&"FULL");
            is("its replica identity is another", format!("ALTER TABLE {own} REPLICA IDENTITY {to}"))
        }
        10 => is("it is written anew", format!("VACUUM FULL {own}")),
        11 if table.kind.replaced => is(
            "it is replaced by a copy",
            format!(
                "BEGIN; LOCK TABLE {own}; CREATE TABLE next_{number} (LIKE {own} INCLUDING ALL);
                 INSERT INTO next_{number} SELECT * FROM {own} WHERE id % 2 = 0; DROP TABLE {own};
                 ALTER TABLE next_{number} RENAME TO {own}; COMMIT"
            ),
        ),
        11 if table.kind.target == "parted" => partitions(number),
        11 if table.kind.target == "typed" => is(
            "a label of an enum is renamed",
            format!(
                "DO $$ BEGIN EXECUTE format('ALTER TYPE mood RENAME VALUE %L TO %L', (enum_range(NULL::mood))[1], 'm{number}'); END $$"
            ),
        ),
        _ => add(random),
    }
}

/// Two names change places.
fn swapped(table: &Table, column: &Column, random: &mut StdRng) -> Migration {
    let own = table.kind.quoted();
    let other = table.columns.choose(random).map_or("", |other| &other.name);
    let (a, b) = (quoted(&column.name), quoted(other));
    let statements = if a == b {
        format!("ALTER TABLE {own} RENAME {a} TO was")
    } else {
        format!(
            "BEGIN; ALTER TABLE {own} RENAME {a} TO away; ALTER TABLE {own} RENAME {b} TO {a}; ALTER TABLE {own} RENAME away TO {b}; COMMIT"
        )
    };
    Migration { kind: "two columns change their names", statements }
}

fn retyped(own: &str, column: &Column) -> Migration {
    let name = quoted(&column.name);
    let (to, using) = match column.kind {
        Type::Integer => ("bigint", format!("{name}::bigint")),
        Type::Bigint => ("numeric(12,2)", format!("{name}::numeric(12,2)")),
        Type::Text => ("bytea", format!("convert_to({name}, 'UTF8')")),
        Type::Date => ("timestamp with time zone", format!("{name}::timestamptz")),
        _ => ("text", format!("{name}::text")),
    };
    let statements =
        format!("ALTER TABLE {own} ALTER {name} DROP DEFAULT, ALTER {name} TYPE {to} USING {using}");
    Migration { kind: "a column's type is another", statements }
}

/// A partition that had rows before comes, or goes.
fn partitions(number: u32) -> Migration {
    let region = 10 + number;
    let (name, kind) = (format!("parted_{region}"), "a partition with rows is attached, and detached");
    let statements = format!(
        "CREATE TABLE {name} (LIKE parted INCLUDING ALL);
         INSERT INTO {name} (id, region) SELECT g, {region} FROM generate_series(1, 50) AS g;
         ALTER TABLE parted ATTACH PARTITION {name} FOR VALUES IN ({region});
         UPDATE parted SET n = n + 1 WHERE region = {region} AND id < 20;
         ALTER TABLE parted DETACH PARTITION {name}"
    );
    Migration { kind, statements }
}
