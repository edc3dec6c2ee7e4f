//! Values that events lack, resolved key by key in the order of the stream. Pure.
//!
//! PostgreSQL sends no unchanged out-of-line value. It is that of the row before: an image of the same key in the
//! batch, or the row that the table has, or that of the key from which a change moved the row. Of a key's rows only
//! the newest counts, so it alone is written. What is in none of these places is read at the source.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidemark_crds::history::Position;
use tidemark_crds::version::Version;

use crate::batch::{Batch, Deferred, Place};
use crate::history::position_of;

/// The newest row of a key in its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A row.
    Live {
        /// Its version.
        version: Version,
        /// Values in RowBinary of the columns that were asked for, by place.
        values: BTreeMap<usize, Vec<u8>>,
    },
    /// A tombstone.
    Deleted {
        /// Its version.
        version: Version,
    },
}

/// Whether values are taken from a row of this version: it is not hidden by its table's fence or a read, and not from
/// before something that was not applied.
pub fn is_trusted(version: Version, fence: Version, floor: Position) -> bool {
    version >= fence && position_of(version) > floor
}

/// A row whose values are all known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// All values in RowBinary, in column order.
    pub values: Vec<Vec<u8>>,
    /// Version of the row.
    pub version: Version,
    /// Commit time at the source, milliseconds since 1970-01-01.
    pub committed_at: i64,
    /// Where its record is.
    pub place: Place,
}

/// What became of the rows that lacked values.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Rows to write.
    pub rows: Vec<Resolved>,
    /// Keys, in RowBinary, whose rows are to be read at the source.
    pub at_source: Vec<Vec<u8>>,
}

/// One key's rows that lack values, and what the batch has of it.
#[derive(Debug)]
struct Chain<'a> {
    key: &'a [u8],
    /// Those behind the base, oldest first; never empty.
    rows: Vec<&'a Deferred>,
    base: Base,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    /// A complete image in the batch.
    Row(usize),
    /// The batch has nothing of the key.
    Table,
    /// It can be found at the source alone.
    Source,
}

/// The keys of a batch whose rows lack values.
#[derive(Debug)]
pub struct Overlay<'a> {
    chains: Vec<Chain<'a>>,
}

impl<'a> Overlay<'a> {
    /// Orders what lacks values; `deferred` was taken out of `batch`.
    pub fn new(batch: &Batch, deferred: &'a [Deferred]) -> Self {
        let mut by_key: BTreeMap<&[u8], Vec<&Deferred>> = BTreeMap::new();
        for row in deferred {
            by_key.entry(&row.key).or_default().push(row);
        }
        let complete = complete_rows(batch, deferred);
        let chain = |(key, mut rows): (&'a [u8], Vec<&'a Deferred>)| {
            rows.sort_by_key(|row| row.version);
            let none = Vec::new();
            let there = complete.get(key).unwrap_or(&none);
            let newest = there.iter().max_by_key(|(version, ..)| *version);
            // What a complete row follows is never seen.
            rows.retain(|row| newest.is_none_or(|(version, ..)| row.version > *version));
            // One that a move brought is another row than what had the key before: a truncate leaves no tombstone of that.
            let moved = rows.iter().rposition(|row| row.old_key.is_some());
            rows.drain(..moved.unwrap_or(0));
            let first = rows.first()?;
            let mut base = match newest {
                Some((_, row, false)) => Base::Row(*row),
                Some((_, _, true)) => Base::Source,
                None => Base::Table,
            };
            if let Some(old) = &first.old_key {
                let moved = complete.get(old.as_slice()).unwrap_or(&none);
                let before = moved.iter().filter(|(version, ..)| *version < first.version);
                let before = before.max_by_key(|(version, ..)| *version);
                // A row that lacks values itself is not followed any further.
                let lacked = deferred
                    .iter()
                    .any(|row| row.key == *old && before.is_none_or(|(version, ..)| row.version > *version));
                base = match before {
                    Some((_, row, false)) if !lacked => Base::Row(*row),
                    _ => Base::Source,
                };
            }
            // Between two epochs changes may be lost: no row lends a value to one of a later epoch.
            let epoch = rows.last()?.version.epoch();
            let is_other = |version: Version| version.epoch() != epoch;
            if rows.iter().any(|row| row.unstreamed || is_other(row.version))
                || matches!(base, Base::Row(row) if is_other(batch.version_of(row).0))
            {
                base = Base::Source;
            }
            Some(Chain { key, rows, base })
        };
        Self { chains: by_key.into_iter().filter_map(chain).collect() }
    }

    /// Keys whose newest rows in the table are needed, and the columns that are needed of them.
    pub fn wanted(&self) -> (Vec<&'a [u8]>, BTreeSet<usize>) {
        let of_table = || self.chains.iter().filter(|chain| chain.base == Base::Table);
        let columns =
            of_table().flat_map(|chain| chain.rows.iter().flat_map(|row| row.lacking.iter().copied()));
        (of_table().map(|chain| chain.key).collect(), columns.collect())
    }

    /// Gives each key's newest row its values. Of rows that are not `trusted` none is taken: they were written before
    /// the table had to be read again, or before a change that could not be applied.
    pub fn resolve(
        &self,
        batch: &Batch,
        stored: &HashMap<Vec<u8>, Stored>,
        trusted: impl Fn(Version) -> bool,
    ) -> Resolution {
        let mut resolution = Resolution::default();
        for chain in &self.chains {
            let (mut values, behind): (BTreeMap<usize, Vec<u8>>, Version) = match chain.base {
                Base::Row(row) if trusted(batch.version_of(row).0) => {
                    (batch.values_of(row).into_iter().enumerate().collect(), Version(0))
                }
                Base::Row(_) | Base::Source => {
                    resolution.at_source.push(chain.key.to_vec());
                    continue;
                }
                Base::Table => match stored.get(chain.key) {
                    Some(Stored::Live { version, values })
                        if trusted(*version)
                            && chain.rows.iter().all(|row| row.version.epoch() <= version.epoch()) =>
                    {
                        (values.clone(), *version)
                    }
                    // The deletion is newer than the rows here, or older and nothing is known of the row since.
                    Some(Stored::Deleted { version })
                        if chain.rows.iter().all(|row| row.version <= *version) =>
                    {
                        continue;
                    }
                    _ => {
                        resolution.at_source.push(chain.key.to_vec());
                        continue;
                    }
                },
            };
            let mut last = None;
            for row in chain.rows.iter().filter(|row| row.version > behind) {
                for (column, value) in row.values.iter().enumerate() {
                    if !row.lacking.contains(&column) {
                        values.insert(column, value.clone());
                    }
                }
                last = Some(*row);
            }
            if let Some(row) = last {
                resolution.rows.push(Resolved {
                    values: values.into_values().collect(),
                    version: row.version,
                    committed_at: row.committed_at,
                    place: row.place,
                });
            }
        }
        resolution
    }
}

/// Complete rows of the keys that count: version, row, whether it is a tombstone.
fn complete_rows(batch: &Batch, deferred: &[Deferred]) -> HashMap<Vec<u8>, Vec<(Version, usize, bool)>> {
    let old_keys = deferred.iter().filter_map(|row| row.old_key.as_ref());
    let mut complete: HashMap<Vec<u8>, Vec<_>> =
        deferred.iter().map(|row| &row.key).chain(old_keys).map(|key| (key.clone(), Vec::new())).collect();
    let (plan, mut key) = (batch.plan(), Vec::new());
    for row in 0..batch.rows() {
        key.clear();
        batch.write_key(&plan.key, row, &mut key);
        if let Some(rows) = complete.get_mut(&key) {
            let (version, deleted) = batch.version_of(row);
            rows.push((version, row, deleted));
        }
    }
    complete
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
