//! From a value of an event, or from PostgreSQL's own text of it, to the wire form of a ClickHouse column. Pure.
//!
//! Both ways give the same bytes, so that a row is the same whether it was streamed or read.

mod array;
mod form;
mod placeholder;
mod room;
mod scalar;
mod text;

use crate::decode::connect_schema::Hint;
use crate::decode::json::{JsonError, Raw};
use crate::decode::time::TimeError;
use crate::native::{Column, ElementColumn};
use crate::plan::{ColumnPlan, Encoding};

pub use form::Form;

/// Why a value does not go into its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is not of the form that the column's PostgreSQL type has.
    #[error("the value is not of the column's type")]
    Malformed,
    /// No value of the type stands for it (infinity, NaN, a year out of range), and the column's policy takes no
    /// other in its place.
    #[error("the value is out of the type's range; outOfRange: Text keeps every value")]
    OutOfRange,
    /// A wider type would hold it: the column may have been widened at the source.
    #[error("the value is too wide for the column")]
    TooWide,
    /// It is NULL and the column takes none: the column may have become nullable at the source.
    #[error("null in a column that takes none")]
    Null,
    /// It is the placeholder of an out-of-line value that did not change: the row's earlier image has it.
    #[error("the value is unchanged and not in the event")]
    Unavailable,
    /// The event cannot carry the value, and no earlier image has it: it must be read at the source.
    #[error("the event cannot carry the value")]
    NotCarried,
}

impl From<JsonError> for ValueError {
    fn from(_: JsonError) -> Self {
        Self::Malformed
    }
}

impl From<TimeError> for ValueError {
    fn from(error: TimeError) -> Self {
        match error {
            TimeError::Malformed => Self::Malformed,
            TimeError::OutOfRange => Self::OutOfRange,
        }
    }
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pushed {
    /// It is in the column as it came.
    AsIs,
    /// The nearest value that the type can hold is in its place, by the column's policy.
    Clamped,
    /// NULL is in its place, by the column's policy.
    Nulled,
}

/// A column or the elements of an array. Each says whether it takes such a value.
trait Values {
    fn push_default(&mut self);
    fn push_fixed(&mut self, value: &[u8]) -> bool;
    fn push_text(&mut self, value: &[u8]) -> bool;
    /// Whether NULL is a value.
    fn takes_null(plan: &ColumnPlan) -> bool;
}

impl Values for Column {
    fn push_default(&mut self) {
        Self::push_default(self);
    }
    #[inline]
    fn push_fixed(&mut self, value: &[u8]) -> bool {
        Self::push_fixed(self, value)
    }
    #[inline]
    fn push_text(&mut self, value: &[u8]) -> bool {
        Self::push_text(self, value)
    }
    fn takes_null(plan: &ColumnPlan) -> bool {
        plan.nullable
    }
}

impl Values for ElementColumn<'_> {
    fn push_default(&mut self) {
        Self::push_default(self);
    }
    fn push_fixed(&mut self, value: &[u8]) -> bool {
        Self::push_fixed(self, value)
    }
    fn push_text(&mut self, value: &[u8]) -> bool {
        Self::push_text(self, value)
    }
    fn takes_null(plan: &ColumnPlan) -> bool {
        plan.null_elements
    }
}

/// How values are written and judged.
#[derive(Debug, Clone, Copy)]
struct Input {
    hint: Hint,
    encoding: Encoding,
    /// Whether a value that is too wide follows the column's policy: nothing wider is to come.
    settled: bool,
}

/// Appends a value to its column; one out of the type's range follows the column's policy.
///
/// After an error the column may hold a part of it and must be cut.
#[inline]
pub fn push(
    column: &mut Column,
    plan: &ColumnPlan,
    value: Raw<'_>,
    hint: Hint,
    encoding: Encoding,
) -> Result<Pushed, ValueError> {
    push_value(column, plan, value, Input { hint, encoding, settled: false })
}

/// The same where the layout is known to be the event's: a value that is too wide follows the policy too.
pub fn push_settled(
    column: &mut Column,
    plan: &ColumnPlan,
    value: Raw<'_>,
    hint: Hint,
    encoding: Encoding,
) -> Result<Pushed, ValueError> {
    push_value(column, plan, value, Input { hint, encoding, settled: true })
}

#[inline]
fn push_value(
    column: &mut Column,
    plan: &ColumnPlan,
    value: Raw<'_>,
    input: Input,
) -> Result<Pushed, ValueError> {
    if plan.guarded {
        if placeholder::is_placeholder(plan, value) {
            return Err(ValueError::Unavailable);
        }
        if placeholder::may_be_null(plan, value) {
            return Err(ValueError::NotCarried);
        }
    }
    match value {
        Raw::Null => push_null(column, plan).map(|()| Pushed::AsIs),
        Raw::Array(array) if plan.array => array::push_event(column, plan, array, input),
        Raw::Array(array) if plan.elements => {
            array::push_event_text(column, plan, array).map(|()| Pushed::AsIs)
        }
        _ if plan.array => Err(ValueError::Malformed),
        value => scalar::push(column, plan, value, input),
    }
}

/// Appends NULL; an array column, which has none, takes the empty array by its spec's choice.
#[inline]
pub fn push_null(column: &mut Column, plan: &ColumnPlan) -> Result<(), ValueError> {
    if plan.nullable || plan.array {
        column.push_default();
        Ok(())
    } else {
        Err(ValueError::Null)
    }
}

/// Appends a value from PostgreSQL's own text of it, as COPY prints it with its escapes undone; the text is that of
/// [`read_expression`](tidemark_crds::mapping::read_expression). After an error the column may hold a part of it.
#[inline]
pub fn push_postgres_text(column: &mut Column, plan: &ColumnPlan, text: &[u8]) -> Result<Pushed, ValueError> {
    let input = Input { hint: Hint::default(), encoding: Encoding::Contract, settled: false };
    if plan.array {
        return array::push_text(column, plan, text, input);
    }
    let text = if plan.elements { array::without_bounds(text) } else { text };
    scalar::push_postgres_text(column, plan, text, input)
}

/// Appends what the column has where the event says nothing: the value that rows had before the column was
/// added, or NULL, or the type's default.
pub fn push_missing(column: &mut Column, plan: &ColumnPlan) {
    let rows = column.len();
    if let Some(text) = &plan.missing
        && push_postgres_text(column, plan, text.as_bytes()).is_ok()
    {
        return;
    }
    column.truncate(rows);
    column.push_default();
}

/// Puts what the column's policy says in the place of a value that the type cannot hold.
#[cold]
fn outside<V: Values>(
    out: &mut V,
    plan: &ColumnPlan,
    nearest: &[u8],
    error: ValueError,
    input: Input,
) -> Result<Pushed, ValueError> {
    use tidemark_crds::layout::OutOfRange;
    if error == ValueError::TooWide && !plan.form.narrowed && !input.settled {
        return Err(error);
    }
    match plan.out_of_range {
        OutOfRange::Null if V::takes_null(plan) => {
            out.push_default();
            Ok(Pushed::Nulled)
        }
        OutOfRange::Clamp => taken(out.push_fixed(nearest)).map(|()| Pushed::Clamped),
        _ => Err(ValueError::OutOfRange),
    }
}

/// A column that does not take what it was built for would be a wrong plan: never another value in silence.
#[inline]
fn taken(taken: bool) -> Result<(), ValueError> {
    if taken { Ok(()) } else { Err(ValueError::Malformed) }
}
