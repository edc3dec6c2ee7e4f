//! The history of a table's layouts: which of them an event may have. Pure.
//!
//! Positions of the log are `(epoch, bytes)`, ordered as pairs. The catalogue of an entry was not there yet at its
//! `from.after` and had come by its `from.by`, so the end of one entry is known as exactly as the beginning of the
//! next: between the two, the shape of an event decides. That it had come by a position does not say that it was still
//! there: that position is read behind the catalogue, and a transaction that alters the table again may have written
//! before it. Only a later look that finds the same catalogue says so.

use crate::layout::{Begin, TableLayout};
use crate::ledger::Confirmed;

/// A position of the log: epoch, bytes.
pub type Position = (u16, u64);

impl Begin {
    /// The last position at which the catalogue before was seen.
    pub fn after(&self) -> Position {
        (self.epoch, self.after)
    }

    /// The first position at which this one was seen.
    pub fn by(&self) -> Position {
        (self.epoch, self.by)
    }
}

/// The layouts that an event of position `at` may have, the newest first; `layouts` are one table's, in the order of
/// their versions. There is at least one if there is any layout at all.
pub fn candidates(layouts: &[TableLayout], at: Position) -> impl Iterator<Item = &TableLayout> {
    layouts.iter().enumerate().rev().filter_map(move |(index, layout)| {
        let begun = index == 0 || at > layout.from.after();
        let over = layouts.get(index + 1).is_some_and(|next| at > next.from.by());
        (begun && !over).then_some(layout)
    })
}

/// Whether an event with these fields, in this order, has the layout's shape.
pub fn has_shape<'a>(layout: &TableLayout, fields: impl IntoIterator<Item = &'a str>) -> bool {
    let mut fields = fields.into_iter().peekable();
    for (name, required) in layout.shape() {
        if fields.next_if(|field| *field == name).is_none() && required {
            return false;
        }
    }
    fields.next().is_none()
}

/// Up to which position the catalogue is known to be that of the history's newest entry: an event there that has no
/// layout will never have one. `None` without any layout.
pub fn confirmed_to(layouts: &[TableLayout], confirmed: Option<&Confirmed>) -> Option<Position> {
    let newest = layouts.last()?;
    let later = confirmed.filter(|row| row.layout == newest.version).map(|row| (row.epoch, row.lsn));
    Some(later.unwrap_or_default().max(newest.from.after()))
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
