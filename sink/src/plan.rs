//! A table's layout, compiled for decoding: which field goes to which column, and how. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_crds::layout::{
    COMMITTED_AT_COLUMN, DELETED_COLUMN, NullAs, OutOfRange, TableLayout, VERSION_COLUMN, Wire,
};
use tidemark_crds::quote;
use tidemark_crds::types::ChType;

use crate::native::{Column, UnsupportedType};
use crate::value::Form;

/// How a connector that is not ours writes what its settings leave open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As the operator sets it: decimals as text, times in microseconds.
    #[default]
    Contract,
    /// As Debezium does by default: decimals as base64 of the unscaled value, times in milliseconds or
    /// microseconds by the column's precision.
    DebeziumDefaults,
}

/// Where a field of an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Column of the state table, by its place in the layout.
    Column(usize),
    /// Known and not stored.
    Ignored,
}

/// What a value becomes, apart from NULL and arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `Bool`.
    Bool,
    /// A whole number of the given width in bytes and range.
    Integer {
        /// Bytes on the wire.
        width: u8,
        /// Least value.
        least: i64,
        /// Greatest value.
        most: i64,
    },
    /// `Float32`.
    Float32,
    /// `Float64`.
    Float64,
    /// `Decimal(precision, scale)`.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// `String`.
    Text,
    /// `UUID`.
    Uuid,
    /// `Date32`.
    Date32,
    /// `DateTime64(precision)`.
    DateTime64 {
        /// Digits of the second's fraction.
        precision: u8,
    },
}

/// How one column is filled.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own about the column")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnPlan {
    /// Field of the event.
    pub source: String,
    /// How the event has it.
    pub wire: Wire,
    /// What its PostgreSQL type says about the text of its values, or of its elements.
    pub form: Form,
    /// Whether its values are arrays at the source.
    pub elements: bool,
    /// Whether the column is an array too; arrays of other columns are PostgreSQL's text.
    pub array: bool,
    /// What it becomes; of an array column, its elements.
    pub target: Target,
    /// Whether NULL is a value of the column.
    pub nullable: bool,
    /// Whether NULL is a value of the elements of an array column.
    pub null_elements: bool,
    /// What becomes of a value that does not fit.
    pub out_of_range: OutOfRange,
    /// Whether an event can have something else in the place of the value: PostgreSQL may keep it out of line, or NULL comes
    /// as another value.
    pub guarded: bool,
    /// What an event has in the place of NULL.
    pub null_as: NullAs,
    /// Whether timestamps of this column come in milliseconds when the record has no schema.
    pub millis: bool,
    /// PostgreSQL's text of the value of rows that were written before the column was added.
    pub missing: Option<String>,
}

/// A layout that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A column's type has no builder or no conversion.
    #[error("column {column} of table {table}: {reason}")]
    Column {
        /// Target table.
        table: String,
        /// Column of the state table.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no key to tell rows apart.
    #[error("table {0} has no key: its rows would replace each other; give the source table a primary key")]
    NoKey(String),
}

/// A compiled layout.
#[derive(Debug)]
pub struct TablePlan {
    /// The layout itself.
    pub layout: Arc<TableLayout>,
    /// Columns in the layout's order.
    pub columns: Vec<ColumnPlan>,
    /// Key columns in key order, by place.
    pub key: Vec<usize>,
    /// How the connector writes what its settings leave open.
    pub encoding: Encoding,
    /// Fields that an event may have, in order: name, whether it must be there, where it goes.
    fields: Vec<(String, bool, Slot)>,
}

/// Where the fields of an event of one shape go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    /// By the field's place in the event.
    pub slots: Vec<Slot>,
    /// Columns that no field goes to.
    pub absent: Vec<usize>,
}

impl TablePlan {
    /// Compiles a layout.
    pub fn new(layout: Arc<TableLayout>, encoding: Encoding) -> Result<Self, PlanError> {
        let mut columns = Vec::with_capacity(layout.columns.len());
        let mut slots = BTreeMap::new();
        for (place, column) in layout.columns.iter().enumerate() {
            let refused = |reason: String| PlanError::Column {
                table: layout.target.clone(),
                column: column.stored.clone(),
                reason,
            };
            Column::new(&column.r#type).map_err(|error: UnsupportedType| refused(error.to_string()))?;
            let (target, may_be_null) = target_of(&column.r#type)
                .ok_or_else(|| refused(format!("values cannot become {}", column.r#type)))?;
            let form = Form::of(column);
            let array = matches!(column.r#type, ChType::Array(_));
            let fits =
                if array { column.array || form.vector } else { !column.array || target == Target::Text };
            if !fits {
                return Err(refused(format!("an array and the type {} do not go together", column.r#type)));
            }
            slots.insert(column.source.as_str(), Slot::Column(place));
            columns.push(ColumnPlan {
                source: column.source.clone(),
                wire: column.wire,
                form,
                elements: column.array,
                array,
                target,
                nullable: may_be_null && !array,
                null_elements: may_be_null && array,
                out_of_range: column.out_of_range,
                guarded: column.array || toastable(column.wire) || column.null_as != NullAs::Null,
                null_as: column.null_as,
                millis: encoding == Encoding::DebeziumDefaults && coarse_time(&column.pg_type),
                missing: column.missing.clone(),
            });
        }
        let mut key: Vec<usize> =
            (0..layout.columns.len()).filter(|place| layout.columns[*place].key.is_some()).collect();
        key.sort_by_key(|place| layout.columns[*place].key);
        if key.is_empty() {
            return Err(PlanError::NoKey(layout.target.clone()));
        }
        let field = |(name, required): (&str, bool)| {
            (name.to_owned(), required, slots.get(name).copied().unwrap_or(Slot::Ignored))
        };
        let fields = layout.shape().into_iter().map(field).collect();
        drop(slots);
        Ok(Self { layout, columns, key, encoding, fields })
    }

    /// Returns where the fields of an event go; `None` where the event is not of the layout's shape.
    pub fn map(&self, fields: &[String]) -> Option<Mapping> {
        let mut mapping = Mapping::default();
        let mut absent: Vec<bool> = vec![true; self.columns.len()];
        let mut rest = fields.iter().peekable();
        for (name, required, slot) in &self.fields {
            if rest.next_if(|field| *field == name).is_none() {
                if *required {
                    return None;
                }
                continue;
            }
            mapping.slots.push(*slot);
            if let Slot::Column(place) = slot {
                absent[*place] = false;
            }
        }
        mapping.absent = (0..absent.len()).filter(|place| absent[*place]).collect();
        rest.next().is_none().then_some(mapping)
    }

    /// Returns the insert statement up to and including its column list.
    pub fn insert(&self) -> String {
        let names = self.layout.columns.iter().map(|column| column.stored.as_str());
        let names = quote::ident_list(names.chain([VERSION_COLUMN, DELETED_COLUMN, COMMITTED_AT_COLUMN]));
        format!("INSERT INTO {} ({names})", quote::ident(&self.layout.target))
    }
}

/// Reduces a type to what a value becomes and whether NULL is one.
fn target_of(ch_type: &ChType) -> Option<(Target, bool)> {
    let integer = |width, least, most| Target::Integer { width, least, most };
    let target = match ch_type {
        ChType::Nullable(inner) => return target_of(inner).map(|(target, _)| (target, true)),
        ChType::Array(inner) | ChType::LowCardinality(inner) => return target_of(inner),
        ChType::Bool => Target::Bool,
        ChType::Int16 => integer(2, i64::from(i16::MIN), i64::from(i16::MAX)),
        ChType::Int32 => integer(4, i64::from(i32::MIN), i64::from(i32::MAX)),
        ChType::Int64 => integer(8, i64::MIN, i64::MAX),
        ChType::UInt8 => integer(1, 0, i64::from(u8::MAX)),
        ChType::UInt32 => integer(4, 0, i64::from(u32::MAX)),
        ChType::UInt64 => integer(8, 0, i64::MAX),
        ChType::UInt128 => return None,
        ChType::Float32 => Target::Float32,
        ChType::Float64 => Target::Float64,
        ChType::Decimal { precision, scale } => Target::Decimal { precision: *precision, scale: *scale },
        ChType::String => Target::Text,
        ChType::Uuid => Target::Uuid,
        ChType::Date32 => Target::Date32,
        ChType::DateTime64 { precision } => Target::DateTime64 { precision: *precision },
    };
    Some((target, false))
}

fn toastable(wire: Wire) -> bool {
    matches!(
        wire,
        Wire::Text
            | Wire::Base64
            | Wire::Json
            | Wire::Decimal
            | Wire::EncodedText
            | Wire::Hstore
            | Wire::Geometric
    )
}

/// Whether Debezium's adaptive precision writes the type in milliseconds.
fn coarse_time(pg_type: &str) -> bool {
    pg_type
        .strip_prefix("timestamp(")
        .and_then(|rest| rest.chars().next())
        .is_some_and(|digit| ('0'..='3').contains(&digit))
}
