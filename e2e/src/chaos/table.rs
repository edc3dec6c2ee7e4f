//! The tables that chaos writes: one of each kind that is followed in its own way, their columns as they are by now, and
//! the statements over them. Pure.

use std::fmt::Write as _;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Rows that the writers want at the same time have keys from here.
const CROWDED: i64 = 300;
/// How far a key is moved, and back.
const MOVED: i64 = 100_000;
/// Regions of the partitioned table that it has partitions for from the beginning.
const REGIONS: i64 = 3;

/// A kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its name in ClickHouse.
    pub(super) target: &'static str,
    /// Its name as the spec has it, without the schema.
    pub(super) name: &'static str,
    /// What its rows are told apart by; the first is always `id`.
    pub(super) key: &'static [&'static str],
    /// Columns of the key behind `id`, for an `id` that is called `g`.
    pub(super) rest_of_key: &'static str,
    /// What makes it, but for the columns that all have.
    columns: &'static str,
    after: &'static str,
    /// One transaction in so many empties it; 0: none.
    pub(super) emptied: u32,
    /// Its key may be told to PostgreSQL in more than one way.
    pub(super) any_identity: bool,
    /// It may be replaced by a copy of another oid.
    pub(super) replaced: bool,
}

const PLAIN: Kind = Kind {
    target: "",
    name: "",
    key: &["id"],
    rest_of_key: "",
    columns: "",
    after: "",
    emptied: 0,
    any_identity: false,
    replaced: false,
};

/// All kinds.
pub(super) const KINDS: [Kind; 8] = [
    Kind {
        target: "items",
        name: "items",
        columns: "id bigint PRIMARY KEY, note text DEFAULT 'none', price numeric(12,2), at timestamptz, tags text[], doc jsonb",
        any_identity: true,
        replaced: true,
        ..PLAIN
    },
    Kind {
        target: "out_of_line",
        name: "Out Of Line",
        columns: "id bigint PRIMARY KEY, big text, raw bytea, note text",
        after: "ALTER TABLE \"Out Of Line\" ALTER big SET STORAGE EXTERNAL, ALTER raw SET STORAGE EXTERNAL;",
        any_identity: true,
        ..PLAIN
    },
    Kind {
        target: "pairs",
        name: "pairs",
        key: &["id", "code"],
        rest_of_key: "md5(g::text)::uuid",
        columns: "id bigint, code uuid, big text, flag boolean, PRIMARY KEY (code, id)",
        after: "ALTER TABLE pairs ALTER big SET STORAGE EXTERNAL;",
        replaced: true,
        ..PLAIN
    },
    Kind {
        target: "whole",
        name: "whole",
        columns: "id bigint PRIMARY KEY, big text, price numeric(12,2)",
        after: "ALTER TABLE whole ALTER big SET STORAGE EXTERNAL; ALTER TABLE whole REPLICA IDENTITY FULL;",
        ..PLAIN
    },
    Kind {
        target: "by_index",
        name: "by_index",
        columns: "id bigint NOT NULL, note text, day date",
        after: "CREATE UNIQUE INDEX by_index_id ON by_index (id); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id;",
        ..PLAIN
    },
    Kind {
        target: "parted",
        name: "parted",
        key: &["id", "region"],
        rest_of_key: "(g % 3)::int",
        columns: "id bigint, region int, note text, at timestamptz, PRIMARY KEY (id, region)",
        after: "CREATE TABLE parted_0 PARTITION OF parted FOR VALUES IN (0);
                CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
                CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);",
        ..PLAIN
    },
    Kind {
        target: "typed",
        name: "typed",
        columns: "id bigint PRIMARY KEY, feels mood, span interval, host inet, range int4range, bits bit(5), at timestamptz, day date",
        ..PLAIN
    },
    Kind {
        target: "emptied",
        name: "emptied",
        columns: "id bigint PRIMARY KEY, note text",
        emptied: 12,
        any_identity: true,
        ..PLAIN
    },
];

impl Kind {
    /// The name as SQL has it.
    pub(super) fn quoted(&self) -> String {
        crate::cases::quoted(self.name)
    }

    /// Makes the table, with some rows in it.
    pub(super) fn ddl(&self) -> String {
        let Self { columns, after, rest_of_key, .. } = self;
        let by = if self.target == "parted" { " PARTITION BY LIST (region)" } else { "" };
        let (table, more) = (self.quoted(), comma(rest_of_key));
        let key = self.key.join(", ");
        format!(
            "CREATE TABLE {table} ({columns}, n bigint NOT NULL DEFAULT 0){by}; {after}
             INSERT INTO {table} ({key}) SELECT g{more} FROM generate_series(1, {CROWDED} * 4) AS g;"
        )
    }
}

/// What all tables need before.
pub(super) const TYPES: &str = "CREATE TYPE mood AS ENUM ('calm', 'merry');";

/// What a column can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// `integer`
    Integer,
    /// `bigint`
    Bigint,
    /// `text`
    Text,
    /// `bytea`
    Bytes,
    /// `numeric(12,2)`
    Numeric,
    /// `timestamp with time zone`
    Moment,
    /// `date`
    Date,
    /// `jsonb`
    Json,
    /// `text[]`
    Tags,
    /// `boolean`
    Flag,
    /// `uuid`
    Uuid,
    /// The enum of [`TYPES`].
    Mood,
    /// `interval`
    Span,
    /// `inet`
    Host,
    /// `int4range`
    Range,
    /// `bit(5)`
    Bits,
}

const TYPES_BY_NAME: [(Type, &str); 16] = [
    (Type::Integer, "integer"),
    (Type::Bigint, "bigint"),
    (Type::Text, "text"),
    (Type::Bytes, "bytea"),
    (Type::Numeric, "numeric(12,2)"),
    (Type::Moment, "timestamp with time zone"),
    (Type::Date, "date"),
    (Type::Json, "jsonb"),
    (Type::Tags, "text[]"),
    (Type::Flag, "boolean"),
    (Type::Uuid, "uuid"),
    (Type::Mood, "mood"),
    (Type::Span, "interval"),
    (Type::Host, "inet"),
    (Type::Range, "int4range"),
    (Type::Bits, "bit(5)"),
];

impl Type {
    /// The type that `format_type` calls so.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        TYPES_BY_NAME.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// What `format_type` calls it.
    pub(super) fn name(self) -> &'static str {
        TYPES_BY_NAME.iter().find(|(kind, _)| *kind == self).map_or("text", |(_, name)| name)
    }

    /// One that a column may be added as.
    pub(super) fn any(random: &mut StdRng) -> Self {
        TYPES_BY_NAME.choose(random).map_or(Self::Text, |(kind, _)| *kind)
    }

    /// A value as SQL has it.
    pub(super) fn value(self, random: &mut StdRng) -> String {
        let number: u32 = random.random_range(0..1_000_000);
        let few = number % 7;
        match self {
            Self::Integer | Self::Bigint => format!("{}", i64::from(number) - 500_000),
            // Some are out of line, where the column is one that is stored so.
            Self::Text if few < 2 => format!("repeat('{number} ', {})", 200 + number % 900),
            Self::Text => format!("E'{number}\\n\\\\N \u{e4}\u{1f40b}'"),
            Self::Bytes => format!("decode(repeat('{:02x}', {}), 'hex')", number % 256, number % 6000),
            Self::Numeric => format!("{number}.{:02}", number % 100),
            Self::Moment if few == 0 => "'infinity'".into(),
            Self::Moment => {
                format!("'2026-01-01 00:00:00.000001+00'::timestamptz + {number} * '1 s'::interval")
            }
            Self::Date if few == 0 => "'9999-12-31'".into(),
            Self::Date => format!("'2026-01-01'::date + {}", number % 900),
            Self::Json => {
                format!("jsonb_build_object('n', {number}, 'text', repeat('j', {}))", number % 3000)
            }
            Self::Tags => format!("ARRAY['a', NULL, '{number}']"),
            Self::Flag => format!("{}", few < 3),
            Self::Uuid => format!("md5('{number}')::uuid"),
            Self::Mood => "(enum_range(NULL::mood))[1]".into(),
            Self::Span => format!("'{few} days {number} seconds'"),
            Self::Host => format!("'10.0.{}.{}/24'", number % 256, few),
            Self::Range => format!("int4range({few}, {number} + 7)"),
            Self::Bits => format!("{}::bit(5)", number % 32),
        }
    }
}

/// A column that is no part of the key, nor `n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type.
    pub(super) kind: Type,
    /// May be NULL.
    pub(super) nullable: bool,
}

impl Column {
    fn value(&self, random: &mut StdRng) -> String {
        if self.nullable && random.random_range(0..8) == 0 { "NULL".into() } else { self.kind.value(random) }
    }
}

/// A table with the columns that it has by now.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// What it is.
    pub(super) kind: Kind,
    /// Its columns, but for those that all have.
    pub(super) columns: Vec<Column>,
}

impl Table {
    /// A transaction's statement, of a kind that is drawn.
    pub(super) fn statement(&self, random: &mut StdRng) -> String {
        let table = self.kind.quoted();
        let id = random.random_range(1..=CROWDED);
        if self.kind.emptied > 0 && random.random_range(0..self.kind.emptied) == 0 {
            return format!("TRUNCATE {table}");
        }
        match random.random_range(0..20) {
            0..=5 => {
                let to = id + random.random_range(0..20);
                self.upsert(id, to, random)
            }
            6..=11 => format!("UPDATE {table} SET {} WHERE id = {id}", self.changes(random)),
            12 | 13 => {
                let (of, modulo) = (random.random_range(0..40), 40);
                format!("UPDATE {table} SET {} WHERE id % {modulo} = {of}", self.changes(random))
            }
            14 | 15 => {
                format!("DELETE FROM {table} WHERE id BETWEEN {id} AND {id} + {}", random.random_range(0..8))
            }
            16 => self.moved(id, MOVED),
            17 => self.moved(id + MOVED, -MOVED),
            18 if self.kind.target == "parted" => {
                format!(
                    "UPDATE {table} SET region = (region + 1) % {REGIONS} WHERE id = {id} AND region < {REGIONS}"
                )
            }
            // Gone and there again, in one transaction.
            _ => format!("DELETE FROM {table} WHERE id = {id}; {}", self.upsert(id, id, random)),
        }
    }

    /// A statement over thousands of rows that nothing else writes but its like.
    pub(super) fn bulk(&self, random: &mut StdRng) -> String {
        let from = 10_000 + 1000 * random.random_range(0..6);
        match random.random_range(0..3) {
            0 => format!("DELETE FROM {} WHERE id BETWEEN {from} AND {from} + 1999", self.kind.quoted()),
            _ => self.upsert(from, from + 1499, random),
        }
    }

    fn upsert(&self, from: i64, to: i64, random: &mut StdRng) -> String {
        let Kind { key, rest_of_key, .. } = self.kind;
        let (mut names, mut values) = (String::from("n"), format!("{}", random.random_range(0..1000)));
        let mut changes = String::from("n = EXCLUDED.n + 1");
        for column in &self.columns {
            let name = crate::cases::quoted(&column.name);
            // A default is taken now and then.
            if !column.nullable || random.random_range(0..4) > 0 {
                let _ = write!(names, ", {name}");
                let _ = write!(values, ", {}", column.value(random));
                let _ = write!(changes, ", {name} = EXCLUDED.{name}");
            }
        }
        let key = key.join(", ");
        format!(
            "INSERT INTO {} ({key}, {names}) SELECT g{}, {values} FROM generate_series({from}, {to}) AS g
             ON CONFLICT ({key}) DO UPDATE SET {changes}",
            self.kind.quoted(),
            comma(rest_of_key)
        )
    }

    /// `n`, and some of the others.
    fn changes(&self, random: &mut StdRng) -> String {
        let mut changes = String::from("n = n + 1");
        for column in &self.columns {
            if random.random_range(0..3) == 0 {
                let _ =
                    write!(changes, ", {} = {}", crate::cases::quoted(&column.name), column.value(random));
            }
        }
        changes
    }

    fn moved(&self, id: i64, by: i64) -> String {
        let table = self.kind.quoted();
        format!(
            "UPDATE {table} AS t SET id = id + {by} WHERE id = {id} AND NOT EXISTS (SELECT FROM {table} AS o WHERE o.id = t.id + {by})"
        )
    }
}

fn comma(list: &str) -> String {
    if list.is_empty() { String::new() } else { format!(", {list}") }
}
