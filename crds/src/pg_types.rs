//! PostgreSQL's types: what Debezium really sends of each, and the ClickHouse column that takes it. Pure.
//!
//! One table decides it for the operator, the sink, the tests and `docs/types.md`. What Debezium sends was recorded
//! from Debezium 3.6.1 with the settings of the operator's connector (`sink/tests/data/types.jsonl`).

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::layout::Wire;
use crate::types::ChType;

/// A row of the table: types that are treated alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PgType {
    /// Names as `format_type` prints them, without modifiers; alternatives of one treatment.
    pub names: &'static [&'static str],
    /// How Debezium sends a value, or `Unstreamed`.
    pub wire: Wire,
    /// ClickHouse type of a column without NULL; `Decimal(p, s)` stands for the column's own precision.
    pub stored: &'static str,
    /// Whether equal values always have equal bytes, so that the type can be part of a key.
    pub key: bool,
    /// Whether Debezium sends one-dimensional arrays of it exactly, also unchanged out-of-line ones.
    pub arrays: bool,
    /// What else is to be known.
    pub note: &'static str,
}

const fn row(names: &'static [&'static str], wire: Wire, stored: &'static str) -> PgType {
    PgType { names, wire, stored, key: false, arrays: false, note: "" }
}

impl PgType {
    const fn key(self) -> Self {
        Self { key: true, ..self }
    }

    const fn arrays(self) -> Self {
        Self { arrays: true, ..self }
    }

    const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

const MICROS: &str = "DateTime64(6, 'UTC')";

/// The types that ship with PostgreSQL and those of extensions that Debezium treats in a way of their own.
pub const TABLE: &[PgType] = &[
    row(&["boolean"], Wire::Bool, "Bool").key(),
    row(&["smallint"], Wire::Int, "Int16").key(),
    row(&["integer"], Wire::Int, "Int32").key().arrays(),
    row(&["bigint"], Wire::Int, "Int64").key().arrays(),
    row(&["oid"], Wire::Int, "UInt32").key(),
    row(&["real"], Wire::Float, "Float32").note("NaN and infinities as they are"),
    row(&["double precision"], Wire::Float, "Float64").note("NaN and infinities as they are"),
    row(&["numeric"], Wire::Decimal, "Decimal(p, s)").key().note(
        "without precision, or with more than 76 digits: String with PostgreSQL's text; in a key without the zeros \
         at its end, which two spellings of one number differ in",
    ),
    row(&["text", "character varying"], Wire::Text, "String").key().arrays(),
    row(&["character"], Wire::Text, "String").key().arrays().note("padded to its length, as PostgreSQL prints it"),
    row(&["bpchar"], Wire::Text, "String").arrays(),
    row(&["name", "\"char\""], Wire::Text, "String").key(),
    row(&["uuid"], Wire::Uuid, "UUID").key().arrays(),
    row(&["date"], Wire::Date, "Date32").key().note("1900 to 2299; beyond, and infinity: outOfRange"),
    row(&["timestamp without time zone"], Wire::Timestamp, MICROS).key().note(
        "1900 to 2299; beyond, and infinity: outOfRange; as Text, the year 294247 and later are read at the source",
    ),
    row(&["timestamp with time zone"], Wire::ZonedTimestamp, MICROS)
        .key()
        .note("1900 to 2299; beyond, and infinity: outOfRange"),
    row(&["time without time zone"], Wire::Micros, "Int64").key().note("microseconds since midnight; 24:00:00 too"),
    row(&["time with time zone"], Wire::Unstreamed, "String").note(
        "Debezium moves it to UTC and loses the offset; an offset with seconds stops the connector in whatever column",
    ),
    row(&["interval"], Wire::Interval, "String").note(
        "an interval of zero is read at the source: infinity, which PostgreSQL 17 has, looks the same in an event; \
         more than 2^31 hours stop the connector",
    ),
    row(&["json", "jsonb"], Wire::Json, "String").arrays(),
    row(&["bytea"], Wire::Base64, "String").key().arrays().note("the bytes themselves"),
    row(&["bit"], Wire::Bits, "String").key().note(
        "text such as 10110; longer than 128 bits: not in events, since an unchanged out-of-line value would be NULL",
    ),
    row(&["bit varying"], Wire::Unstreamed, "String").note("Debezium loses its length"),
    row(&["money"], Wire::Unstreamed, "Decimal(22, 3)")
        .note("its text depends on lc_monetary, and one that Debezium cannot read stops the connector; read as numeric"),
    row(&["inet", "cidr", "macaddr", "macaddr8"], Wire::Text, "String").key(),
    row(
        &["int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange"],
        Wire::Text,
        "String",
    ),
    row(&["tsvector", "xml"], Wire::Text, "String"),
    row(&["point", "line", "lseg", "box", "path", "polygon", "circle"], Wire::Geometric, "String"),
    row(&["pg_lsn", "xid8", "xid", "cid", "tid"], Wire::EncodedText, "String").key(),
    row(
        &[
            "tsquery",
            "jsonpath",
            "pg_snapshot",
            "txid_snapshot",
            "refcursor",
            "int4multirange",
            "int8multirange",
            "nummultirange",
            "datemultirange",
            "tsmultirange",
            "tstzmultirange",
        ],
        Wire::EncodedText,
        "String",
    ),
    row(
        &[
            "regclass",
            "regtype",
            "regproc",
            "regprocedure",
            "regoper",
            "regoperator",
            "regrole",
            "regnamespace",
            "regconfig",
            "regdictionary",
            "regcollation",
        ],
        Wire::EncodedText,
        "String",
    )
    .note("the name that it has when the row changes; oid keeps the number"),
    row(&["int2vector", "oidvector"], Wire::Unstreamed, "String"),
    row(&["citext"], Wire::Text, "String").note("extension citext"),
    row(&["ltree"], Wire::Text, "String").key().note("extension ltree"),
    row(&["isbn"], Wire::Text, "String").key().note("extension isn"),
    row(&["hstore"], Wire::Hstore, "String").note("extension hstore; PostgreSQL's text, \"k\"=>\"v\""),
    row(&["vector", "halfvec", "sparsevec"], Wire::Unstreamed, "String")
        .note("extension pgvector; an unchanged out-of-line value would be NULL; type: Array(Float32) takes vectors"),
    row(&["geometry", "geography"], Wire::Unstreamed, "String")
        .note("extension postgis; EWKB in hex, as PostgreSQL prints it; an unchanged out-of-line value would be NULL"),
];

/// Enums: their labels.
pub const ENUM: PgType = row(&["enum"], Wire::Text, "LowCardinality(String)")
    .key()
    .note("a domain over an enum, anywhere in the database, keeps the connector from starting");

/// Every other type: composites, ranges of one's own, types of extensions.
pub const OTHER: PgType = row(&["any other type"], Wire::EncodedText, "String").note(
    "composites, ranges of one's own, cube, seg, lquery and other types of extensions: PostgreSQL's text",
);

/// Arrays that events carry: of the types marked so.
const ARRAYS: &str = "NOT NULL, one-dimensional, of `integer`, `bigint`, `text`, `character varying`, `character`, \
                      `uuid`, `json`, `jsonb` or `bytea`";

/// Longest bit string that is never stored out of line.
const INLINE_BITS: u32 = 128;
/// Most digits of a ClickHouse Decimal.
const MAX_DIGITS: u32 = 76;

/// The row of a type that is neither an array nor known to be an enum.
pub fn find(type_name: &str) -> &'static PgType {
    let (name, _) = split_modifier(type_name);
    let name = if name.starts_with("interval") { "interval" } else { name.as_ref() };
    let known = |name: &str| TABLE.iter().find(|row| row.names.contains(&name));
    // An extension may be installed into a schema that is not on the path.
    known(name).or_else(|| known(of_extension(name)?)).unwrap_or(&OTHER)
}

fn of_extension(name: &str) -> Option<&str> {
    let (_, last) = name.rsplit_once('.')?;
    ["citext", "ltree", "isbn", "hstore", "vector", "halfvec", "sparsevec", "geometry", "geography"]
        .contains(&last)
        .then_some(last)
}

/// How a scalar of the type travels, and the ClickHouse type that holds each of its values.
pub fn scalar(type_name: &str) -> (Wire, ChType) {
    let row = find(type_name);
    let (_, modifier) = split_modifier(type_name);
    match row.wire {
        Wire::Decimal => (Wire::Decimal, decimal(modifier).unwrap_or(ChType::String)),
        Wire::Bits if bits(type_name) > INLINE_BITS => (Wire::Unstreamed, ChType::String),
        wire => (wire, row.stored.parse().unwrap_or(ChType::String)),
    }
}

/// Number of bits of `bit(n)`; 1 without a modifier.
pub fn bits(type_name: &str) -> u32 {
    split_modifier(type_name).1.and_then(|modifier| modifier.parse().ok()).unwrap_or(1)
}

/// Type of an array's elements; `None` for other types.
pub fn element(type_name: &str) -> Option<&str> {
    type_name.strip_suffix("[]")
}

/// Takes the modifier out of a type's name: `timestamp(3) with time zone` is `timestamp with time zone` and `3`.
pub fn split_modifier(type_name: &str) -> (Cow<'_, str>, Option<&str>) {
    match type_name.split_once('(').and_then(|(head, rest)| Some((head, rest.split_once(')')?))) {
        Some((head, (modifier, tail))) => (Cow::Owned(format!("{head}{tail}")), Some(modifier)),
        None => (Cow::Borrowed(type_name), None),
    }
}

/// `Decimal` for a modifier such as `14,2`; `None` where ClickHouse has none that holds every value: without a
/// modifier and beyond 76 digits.
///
/// A negative scale means zeros before the point, one beyond the precision zeros behind it.
fn decimal(modifier: Option<&str>) -> Option<ChType> {
    let modifier = modifier?;
    let (precision, scale) = modifier.split_once(',').unwrap_or((modifier, "0"));
    let (precision, scale): (u32, i32) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let digits =
        if scale < 0 { precision + scale.unsigned_abs() } else { precision.max(scale.unsigned_abs()) };
    if !(1..=MAX_DIGITS).contains(&digits) {
        return None;
    }
    let (precision, scale) = (u8::try_from(digits).ok()?, u8::try_from(scale.max(0)).ok()?);
    Some(ChType::Decimal { precision, scale })
}

/// The table for people: `docs/types.md`.
pub fn document() -> String {
    let mut text = String::from(
        "<!-- Generated by crdgen from crds/src/pg_types.rs: do not edit. -->\n\
         # Types\n\n\
         What becomes of each PostgreSQL type. Every value is exact, or PostgreSQL's own text of it (with `TimeZone` UTC, \
         `DateStyle` ISO, `IntervalStyle` postgres, `bytea_output` hex), or it is not taken from events: then it is read at \
         the source by the row's key whenever the row changes. A nullable column becomes `Nullable(…)`.\n\n\
         | PostgreSQL | ClickHouse | in events | in keys | |\n|---|---|---|---|---|\n",
    );
    for row in TABLE.iter().chain([&ENUM, &OTHER]) {
        let names: Vec<String> = row.names.iter().map(|name| format!("`{name}`")).collect();
        let names = if std::ptr::eq(row.names, OTHER.names) || std::ptr::eq(row.names, ENUM.names) {
            row.names.join(", ")
        } else {
            names.join(", ")
        };
        let streamed = if row.wire == Wire::Unstreamed { "no: read by key" } else { "yes" };
        let key = if row.key { "yes" } else { "refused" };
        let _ = writeln!(text, "| {names} | `{}` | {streamed} | {key} | {} |", row.stored, row.note);
    }
    let _ = write!(
        text,
        "\nDomains are what their base type is; of a NOT NULL domain, `Nullable(…)` unless the column itself is NOT NULL, since NULL can be \
         in it.\n\n\
         ## Arrays\n\n\
         - {ARRAYS}: `Array(Nullable(T))`.\n\
         - The same, nullable: `Nullable(String)` with PostgreSQL's text, `{{a,b}}`: ClickHouse has no array that is NULL.\n  \
         `columns[].type: Array(T)` takes them all the same; NULL is the empty array then.\n\
         - All others, those with more than one dimension and domains over arrays: `String` with PostgreSQL's text, read at\n  \
         the source by the row's key; Debezium sends nothing, or something else, for some of their values.\n  \
         `columns[].type: Array(T)` takes those of one dimension.\n\
         - Bounds other than from 1 (`[0:1]={{a,b}}`) are not kept: the text is `{{a,b}}`.\n\n\
         ## Values that do not fit\n\n\
         `columns[].outOfRange` decides: `Text` makes the column a String with PostgreSQL's text of every value, `Null` \
         (nullable columns), `Clamp` (the nearest value that the type has; NaN becomes 0), `DeadLetter`. Without it: \
         `Null` where the column is nullable, else `Clamp`, so that `valid_to date NOT NULL DEFAULT '9999-12-31'` and \
         `timestamptz DEFAULT 'infinity'` stream; each value that was changed is counted by column. A key is never \
         changed: `Text`, or `DeadLetter`, which is its default.\n\n\
         ## What the source must be like\n\n\
         The connector reads with the defaults of its role and Connect's own time zone: `bytea_output` hex, \
         `IntervalStyle` postgres and a Connect that runs in UTC (its images do).\n"
    );
    text
}

#[cfg(test)]
#[path = "pg_types_tests.rs"]
mod tests;
