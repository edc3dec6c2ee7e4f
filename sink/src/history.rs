//! The history of one table's layouts, compiled: which plan an event is read by. Pure.

use std::sync::Arc;

use tidemark_crds::history::{Position, candidates, confirmed_to};
use tidemark_crds::layout::TableLayout;
use tidemark_crds::ledger::Confirmed;
use tidemark_crds::version::Version;

use crate::plan::{Encoding, Mapping, TablePlan};

/// The layouts of one table, oldest first, as far as this program can use them.
#[derive(Debug, Default)]
pub struct History {
    layouts: Vec<TableLayout>,
    plans: Vec<Result<Arc<TablePlan>, String>>,
    confirmed: Option<Position>,
}

/// The plan of an event, and how far the answer reaches.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The plan.
    pub plan: Arc<TablePlan>,
    /// Where the event's fields go.
    pub mapping: Mapping,
    /// Events of the same shape behind this position …
    pub lo: Position,
    /// … and up to this one have the same plan.
    pub hi: Position,
}

/// Why there is no plan for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// No layout that is possible at its position has its shape.
    Shape,
    /// One has it, and cannot be used here.
    Unusable(String),
}

impl History {
    /// Compiles the layouts of a table, in the order of their versions; plans that `known` has already are taken over.
    pub fn new(
        layouts: Vec<TableLayout>,
        confirmed: Option<&Confirmed>,
        encoding: Encoding,
        known: Option<&Self>,
    ) -> Self {
        let plan = |layout: &TableLayout| {
            let place = known.and_then(|known| known.layouts.iter().position(|other| other == layout));
            if let (Some(place), Some(known)) = (place, known) {
                return known.plans[place].clone();
            }
            if layout.columns.is_empty() {
                return Err("it is of a form that this program does not know; update the sink".to_owned());
            }
            TablePlan::new(Arc::new(layout.clone()), encoding)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        };
        let plans = layouts.iter().map(plan).collect();
        Self { confirmed: confirmed_to(&layouts, confirmed), plans, layouts }
    }

    /// Whether there is no layout at all.
    pub fn is_empty(&self) -> bool {
        self.layouts.is_empty()
    }

    /// Version of the newest layout that can be used; 0 without any.
    pub fn usable(&self) -> u64 {
        self.newest().map_or(0, |plan| plan.layout.version)
    }

    /// The newest plan there is.
    pub fn newest(&self) -> Option<&Arc<TablePlan>> {
        self.plans.iter().rev().find_map(|plan| plan.as_ref().ok())
    }

    /// Why the newest layout cannot be used, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        let (layout, plan) = self.layouts.last().zip(self.plans.last())?;
        let why = plan.as_ref().err()?;
        Some(format!("layout {} cannot be used: {why}", layout.version))
    }

    /// Whether the catalogue is known at a position: what does not fit there will never do.
    pub fn is_confirmed(&self, at: Position) -> bool {
        self.confirmed.is_some_and(|confirmed| at <= confirmed) && self.trouble().is_none()
    }

    /// The plan of an event with these fields, in this order.
    pub fn choose(&self, at: Position, fields: &[String]) -> Result<Chosen, Missing> {
        let names = || fields.iter().map(String::as_str);
        let found =
            candidates(&self.layouts, at).find(|layout| tidemark_crds::history::has_shape(layout, names()));
        let layout = found.ok_or_else(|| self.trouble().map_or(Missing::Shape, Missing::Unusable))?;
        let place = self.layouts.iter().position(|other| other.version == layout.version);
        let plan = place.map(|place| &self.plans[place]).ok_or(Missing::Shape)?;
        let plan = plan
            .as_ref()
            .map_err(|why| Missing::Unusable(format!("layout {} cannot be used: {why}", layout.version)))?;
        let mapping = plan.map(fields).ok_or(Missing::Shape)?;
        let (lo, hi) = self.around(at);
        Ok(Chosen { plan: Arc::clone(plan), mapping, lo, hi })
    }

    /// The positions between which the same layouts are possible as at this one.
    fn around(&self, at: Position) -> (Position, Position) {
        let cuts = || self.layouts.iter().skip(1).flat_map(|layout| [layout.from.after(), layout.from.by()]);
        let lo = cuts().filter(|cut| *cut < at).max().unwrap_or((0, 0));
        let hi = cuts().filter(|cut| *cut >= at).min().unwrap_or((u16::MAX, u64::MAX));
        (lo, hi)
    }

    /// Position behind which a stored row has all columns of a plan: where the newest layout begins, up to the plan's,
    /// for which the table was read again.
    pub fn complete_from(&self, plan: &TablePlan) -> Position {
        let again = self
            .layouts
            .iter()
            .filter(|layout| layout.version <= plan.layout.version && layout.read_again.is_some());
        again.map(|layout| layout.from.by()).max().unwrap_or((0, 0))
    }
}

/// Position in the log of the change that gave a row its version.
pub fn position_of(version: Version) -> Position {
    (version.epoch(), version.lsn().max(version.last_commit_lsn()))
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
