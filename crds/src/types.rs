//! ClickHouse column types as a tree: what the mapping produces, DDL prints and the block encoder writes. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A ClickHouse data type that a state table can have; serialised as ClickHouse's own text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ChType {
    /// `Bool`.
    Bool,
    /// `Int16`.
    Int16,
    /// `Int32`.
    Int32,
    /// `Int64`.
    Int64,
    /// `UInt8`.
    UInt8,
    /// `UInt32`.
    UInt32,
    /// `UInt64`.
    UInt64,
    /// `UInt128`.
    UInt128,
    /// `Float32`.
    Float32,
    /// `Float64`.
    Float64,
    /// `Decimal(precision, scale)`, precision 1 to 76.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// `String`: any bytes.
    String,
    /// `UUID`.
    Uuid,
    /// `Date32`: 1900-01-01 to 2299-12-31.
    Date32,
    /// `DateTime64(precision, 'UTC')`: 1900 to 2299.
    DateTime64 {
        /// Digits of the second's fraction, 0 to 9.
        precision: u8,
    },
    /// `Array(T)`.
    Array(Box<ChType>),
    /// `Nullable(T)`.
    Nullable(Box<ChType>),
    /// `LowCardinality(T)`.
    LowCardinality(Box<ChType>),
}

/// A type name that is none of [`ChType`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a ClickHouse type that a state table can have")]
pub struct UnknownType(pub String);

impl ChType {
    /// `Nullable(self)`, unless it is nullable already.
    #[must_use]
    pub fn nullable(self) -> Self {
        match self {
            Self::Nullable(_) | Self::Array(_) => self,
            // ClickHouse nests the two in this order only.
            Self::LowCardinality(inner) => Self::LowCardinality(Box::new(inner.nullable())),
            other => Self::Nullable(Box::new(other)),
        }
    }

    /// Whether NULL is one of its values.
    pub fn is_nullable(&self) -> bool {
        match self {
            Self::Nullable(_) => true,
            Self::LowCardinality(inner) => inner.is_nullable(),
            _ => false,
        }
    }

    /// The type without NULL: undoes [`ChType::nullable`].
    #[must_use]
    pub fn without_null(self) -> Self {
        match self {
            Self::Nullable(inner) => *inner,
            Self::LowCardinality(inner) => Self::LowCardinality(Box::new(inner.without_null())),
            other => other,
        }
    }

    /// Whether a column of this type can be altered to `wider` with each stored value keeping its meaning and
    /// its text; also true for the type itself.
    ///
    /// Columns of the sorting key are another matter: ClickHouse refuses to alter them, whatever this says.
    pub fn widens_to(&self, wider: &Self) -> bool {
        if self == wider {
            return true;
        }
        if self.is_nullable() && !wider.is_nullable() {
            return false;
        }
        match (self.clone().without_null().plain(), wider.clone().without_null().plain()) {
            (Self::Array(from), Self::Array(to)) => from.widens_to(&to),
            (from, to) => from == to || from.scalar_widens_to(&to),
        }
    }

    /// Whether the step from this type to `other` could lose values or change their text.
    pub fn is_narrowing(&self, other: &Self) -> bool {
        !self.widens_to(other)
    }

    /// The type inside `LowCardinality`, which changes how values are stored and nothing else.
    fn plain(self) -> Self {
        match self {
            Self::LowCardinality(inner) => inner.without_null(),
            other => other,
        }
    }

    fn scalar_widens_to(&self, wider: &Self) -> bool {
        match (self, wider) {
            (
                Self::Decimal { precision, scale },
                Self::Decimal { precision: wider_precision, scale: wider_scale },
            ) => wider_scale >= scale && wider_precision - wider_scale >= precision - scale,
            (Self::DateTime64 { precision: from }, Self::DateTime64 { precision: to }) => to >= from,
            // To text: a Decimal's, Float's or time's differs between PostgreSQL and ClickHouse; these do not.
            (Self::Float32, Self::Float64) | (Self::Uuid | Self::Date32, Self::String) => true,
            (from, Self::String) => from.integer().is_some(),
            (from, Self::Decimal { precision, scale }) => {
                from.integer().is_some_and(|(_, digits, _)| precision - scale >= digits)
            }
            (from, to) => match (from.integer(), to.integer()) {
                (Some((from_bits, _, from_signed)), Some((to_bits, _, to_signed))) => {
                    to_bits > from_bits && (to_signed || !from_signed)
                }
                _ => false,
            },
        }
    }

    /// Bits, decimal digits and signedness of an integer type.
    fn integer(&self) -> Option<(u8, u8, bool)> {
        Some(match self {
            Self::Int16 => (16, 5, true),
            Self::Int32 => (32, 10, true),
            Self::Int64 => (64, 19, true),
            Self::UInt8 => (8, 3, false),
            Self::UInt32 => (32, 10, false),
            Self::UInt64 => (64, 20, false),
            Self::UInt128 => (128, 39, false),
            _ => return None,
        })
    }
}

impl fmt::Display for ChType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("Bool"),
            Self::Int16 => f.write_str("Int16"),
            Self::Int32 => f.write_str("Int32"),
            Self::Int64 => f.write_str("Int64"),
            Self::UInt8 => f.write_str("UInt8"),
            Self::UInt32 => f.write_str("UInt32"),
            Self::UInt64 => f.write_str("UInt64"),
            Self::UInt128 => f.write_str("UInt128"),
            Self::Float32 => f.write_str("Float32"),
            Self::Float64 => f.write_str("Float64"),
            Self::Decimal { precision, scale } => write!(f, "Decimal({precision}, {scale})"),
            Self::String => f.write_str("String"),
            Self::Uuid => f.write_str("UUID"),
            Self::Date32 => f.write_str("Date32"),
            Self::DateTime64 { precision } => write!(f, "DateTime64({precision}, 'UTC')"),
            Self::Array(inner) => write!(f, "Array({inner})"),
            Self::Nullable(inner) => write!(f, "Nullable({inner})"),
            Self::LowCardinality(inner) => write!(f, "LowCardinality({inner})"),
        }
    }
}

impl FromStr for ChType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownType(text.to_owned());
        let text = text.trim();
        let Some((name, arguments)) = text.split_once('(') else {
            return Ok(match text {
                "Bool" => Self::Bool,
                "Int16" => Self::Int16,
                "Int32" => Self::Int32,
                "Int64" => Self::Int64,
                "UInt8" => Self::UInt8,
                "UInt32" => Self::UInt32,
                "UInt64" => Self::UInt64,
                "UInt128" => Self::UInt128,
                "Float32" => Self::Float32,
                "Float64" => Self::Float64,
                "String" => Self::String,
                "UUID" => Self::Uuid,
                "Date32" => Self::Date32,
                _ => return Err(unknown()),
            });
        };
        let arguments = arguments.strip_suffix(')').ok_or_else(unknown)?;
        let number = |text: &str| text.trim().parse::<u8>().map_err(|_| unknown());
        match name {
            "Array" => Ok(Self::Array(Box::new(arguments.parse()?))),
            "Nullable" => Ok(Self::Nullable(Box::new(arguments.parse()?))),
            "LowCardinality" => Ok(Self::LowCardinality(Box::new(arguments.parse()?))),
            "Decimal" => {
                let (precision, scale) = arguments.split_once(',').ok_or_else(unknown)?;
                let (precision, scale) = (number(precision)?, number(scale)?);
                let fits = (1..=76).contains(&precision) && scale <= precision;
                if fits { Ok(Self::Decimal { precision, scale }) } else { Err(unknown()) }
            }
            "DateTime64" => {
                let (precision, zone) = arguments.split_once(',').ok_or_else(unknown)?;
                let precision = number(precision)?;
                if zone.trim() == "'UTC'" && precision <= 9 {
                    Ok(Self::DateTime64 { precision })
                } else {
                    Err(unknown())
                }
            }
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for ChType {
    type Error = UnknownType;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ChType> for String {
    fn from(ch_type: ChType) -> Self {
        ch_type.to_string()
    }
}
