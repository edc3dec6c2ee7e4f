//! The operator as far as sinks hear of it: layouts, how far they are confirmed, reads, epochs. Its own rules have
//! models of their own (`operator/src/core/desired/history_model.rs`, `operator/tests/explore`).

use std::collections::{BTreeMap, BTreeSet};

use tidemark_crds::layout::{
    Begin, ColumnLayout, NullAs, OutOfRange, SourceTable, Storage, TableLayout, Wire,
};
use tidemark_crds::ledger::{Confirmed, ReadRequest, SinkState};
use tidemark_sink::read::claim::ReadState;
use tidemark_sink::read::relation::are_moved;

use super::clickhouse::{ClickHouse, TARGET};
use super::replica::Around;
use super::source::{Column, OID};

/// Age of a state above which its replica is gone, milliseconds.
const STATE_MS: i64 = 15_000;

#[derive(Debug, Default)]
pub(super) struct Operator {
    /// A layout, and up to where the catalogue was seen to be its.
    seen: (u64, (u16, u64)),
    /// Files in which the rows lay then.
    files: BTreeMap<u32, u32>,
    requests: u64,
}

impl Operator {
    /// One look at everything, and what follows from it.
    pub(super) fn look(&mut self, around: &mut Around) {
        let Around { source, clickhouse, .. } = around;
        let columns = source.catalogue().to_vec();
        // Rows that were written anew along with a change of columns have values that no event has.
        let anew = are_moved(&self.files, &source.files());
        self.files = source.files();
        let is_known = self.layout(&columns, anew, source.lsn, clickhouse);
        // While somebody alters the table, events of what it becomes may lie before this position.
        if is_known && !source.is_altered() {
            let newest = clickhouse.layouts.last().map_or(0, |layout| layout.version);
            self.seen = (newest, (clickhouse.epoch, source.lsn));
        }
        self.confirm(clickhouse);
        self.ask(around);
    }

    /// Decides the layout; whether it is the one that is known.
    fn layout(&self, columns: &[Column], anew: bool, lsn: u64, clickhouse: &mut ClickHouse) -> bool {
        let epoch = clickhouse.epoch;
        let same = |old: &TableLayout| {
            old.columns.len() == columns.len()
                && columns.iter().all(|column| {
                    old.columns.iter().any(|old| {
                        (old.attnum, &old.source, old.pg_type.as_str())
                            == (column.attnum, &column.name, column.pg_type)
                    })
                })
        };
        if clickhouse.layouts.last().is_some_and(same) {
            return true;
        }
        let previous = clickhouse.layouts.last();
        let stored: Vec<ColumnLayout> =
            columns.iter().map(|column| column_layout(column, &clickhouse.layouts)).collect();
        let (of, after) = previous.map_or((0, 0), |old| {
            let earlier = old.from.after();
            if self.seen.0 == old.version { self.seen.1.max(earlier) } else { earlier }
        });
        let again = previous.is_some_and(|old| {
            anew || is_rewritten(old, columns) || is_ambiguous(&clickhouse.layouts, columns, (of, after))
        });
        let from = Begin { epoch, after: if of == epoch { after } else { 0 }, by: lsn };
        let layout = TableLayout {
            version: previous.map_or(1, |old| old.version + 1),
            source: "public.t".parse::<SourceTable>().unwrap(),
            oid: OID,
            target: TARGET.to_owned(),
            from: if previous.is_none() { Begin::default() } else { from },
            columns: stored,
            left_out: Vec::new(),
            full_before: false,
            partition_by: None,
            storage: Storage::default(),
            definitions: BTreeMap::new(),
            read_again: again.then(|| "columns".to_owned()),
        };
        for column in &layout.columns {
            clickhouse.add_column(&column.stored, default_of(column));
        }
        clickhouse.layouts.push(layout);
        clickhouse.stamp += 1;
        clickhouse.changed = true;
        false
    }

    /// Says how far the newest layout is known, where a sink waits for it.
    fn confirm(&self, clickhouse: &mut ClickHouse) {
        let Some(newest) = clickhouse.layouts.last() else { return };
        let confirmed = clickhouse.confirmed.as_ref();
        let known = tidemark_crds::history::confirmed_to(&clickhouse.layouts, confirmed);
        let wants = clickhouse.states.values().map(|(state, _)| state.wants);
        let (layout, seen) = self.seen;
        let wanted = wants.filter(|wants| *wants != (0, 0) && *wants <= seen).max();
        if layout == newest.version && wanted.is_some_and(|wants| known.is_none_or(|known| known < wants)) {
            let (epoch, lsn) = seen;
            clickhouse.confirmed = Some(Confirmed { layout: newest.version, epoch, lsn });
            clickhouse.stamp += 1;
        }
    }

    /// Asks for a read where there is a reason.
    fn ask(&mut self, around: &mut Around) {
        if Self::reason(around) {
            self.ask_now(&mut around.clickhouse);
        }
    }

    /// Asks for a read, whatever the reason.
    pub(super) fn ask_now(&mut self, clickhouse: &mut ClickHouse) {
        self.requests += 1;
        let layout = clickhouse.layouts.last().map_or(0, |layout| layout.version);
        let (epoch, reason) = (clickhouse.epoch, "asked".to_owned());
        clickhouse.request =
            Some((self.requests, ReadRequest { epoch, layout, reason, ..ReadRequest::default() }));
        clickhouse.stamp += 1;
    }

    /// Whether the table has to be read, and is not being read.
    pub(super) fn reason(around: &Around) -> bool {
        let clickhouse = &around.clickhouse;
        let Some((id, request)) = &clickhouse.request else { return !clickhouse.layouts.is_empty() };
        if request.epoch != clickhouse.epoch {
            return true;
        }
        let done =
            clickhouse.read.as_ref().filter(|read| read.request == *id && read.state == ReadState::Read);
        let Some(done) = done else { return false };
        let living: Vec<&SinkState> = (clickhouse.states.values())
            .filter(|(_, at)| around.now_ms - at <= STATE_MS)
            .map(|(state, _)| state)
            .collect();
        let mut changed = clickhouse.layouts.iter().rev();
        let changed = changed.find(|layout| layout.version > request.layout && layout.read_again.is_some());
        let all_know =
            |version: u64| !living.is_empty() && living.iter().all(|state| state.layout >= version);
        changed.is_some_and(|layout| all_know(layout.version))
            || living
                .iter()
                .any(|state| !state.doubt.is_empty() && state.doubt_at >= (done.epoch, done.barrier))
    }

    /// Whether every layout that asks for a read has had one.
    pub(super) fn is_read_again(clickhouse: &ClickHouse) -> bool {
        let done =
            clickhouse.read.as_ref().filter(|read| read.state == ReadState::Read).map(|read| read.request);
        clickhouse.request.as_ref().is_some_and(|(id, request)| {
            let again = |layout: &TableLayout| layout.version > request.layout && layout.read_again.is_some();
            done == Some(*id) && request.epoch == clickhouse.epoch && !clickhouse.layouts.iter().any(again)
        })
    }
}

fn column_layout(column: &Column, layouts: &[TableLayout]) -> ColumnLayout {
    let before = layouts.last().and_then(|old| {
        old.columns.iter().find(|old| old.attnum == column.attnum && old.pg_type == column.pg_type)
    });
    let used: BTreeSet<&str> =
        layouts.iter().flat_map(|layout| &layout.columns).map(|column| column.stored.as_str()).collect();
    let fresh = || {
        let mut name = column.name.clone();
        while used.contains(name.as_str()) {
            name.push('_');
        }
        name
    };
    let key = (column.attnum == 1).then_some(0);
    let (r#type, wire) = match (key, column.pg_type) {
        (Some(_), _) => ("Int64", Wire::Int),
        (None, "text") => ("Nullable(String)", Wire::Text),
        (None, _) => ("Nullable(Int64)", Wire::Int),
    };
    ColumnLayout {
        source: column.name.clone(),
        target: column.name.clone(),
        stored: before.map_or_else(fresh, |old| old.stored.clone()),
        attnum: column.attnum,
        pg_type: column.pg_type.to_owned(),
        wire,
        array: false,
        r#type: r#type.parse().unwrap(),
        key,
        out_of_range: OutOfRange::DeadLetter,
        missing: column.missing.clone(),
        null_as: NullAs::Null,
    }
}

/// The default of a column that is added to the state table, in RowBinary.
fn default_of(column: &ColumnLayout) -> Vec<u8> {
    let number = column.missing.as_ref().and_then(|text| text.parse::<i64>().ok());
    number.map_or_else(|| vec![1], |number| [&[0], number.to_le_bytes().as_slice()].concat())
}

fn is_rewritten(old: &TableLayout, columns: &[Column]) -> bool {
    let other = |column: &Column| {
        old.columns.iter().any(|old| old.attnum == column.attnum && old.pg_type != column.pg_type)
    };
    columns.iter().any(other)
}

/// Whether an event since the last look may have the shape of a layout and not its columns.
fn is_ambiguous(layouts: &[TableLayout], columns: &[Column], after: (u16, u64)) -> bool {
    let of =
        |layout: &TableLayout| layout.columns.iter().map(|column| column.attnum).collect::<BTreeSet<i16>>();
    let before = layouts.last().map(of).unwrap_or_default();
    let now: BTreeSet<i16> = columns.iter().map(|column| column.attnum).collect();
    let top = layouts.iter().flat_map(of).max().unwrap_or(0);
    let added: Vec<i16> = now.difference(&before).copied().collect();
    let unseen = added.iter().zip(1..).any(|(attnum, nth)| *attnum != top + nth);
    let followed = layouts.iter().zip(layouts.iter().skip(1));
    let possible = followed.filter(|(_, next)| next.from.by() > after).map(|(layout, _)| of(layout));
    let differs = |other: BTreeSet<i16>| {
        now.difference(&other).next().is_some() && other.difference(&now).next().is_some()
    };
    (!added.is_empty() && unseen) || now != before && possible.chain([before.clone()]).any(differs)
}
