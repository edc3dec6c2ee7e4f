//! Statements over a state table. Pure.

use tidemark_crds::layout::{DELETED_COLUMN, VERSION_COLUMN};
use tidemark_crds::quote;
use tidemark_crds::version::Version;

/// Tombstones that are looked up at once: as many keys are in memory.
const SLICE: u64 = 500_000;

/// A state table with what is to be removed of it.
#[derive(Debug, Clone)]
pub(super) struct Removal {
    /// The table, with its database: a mutation looks it up by itself.
    pub(super) table: String,
    /// Its sorting key, as the server writes it.
    pub(super) key: String,
    /// Tombstones below it can go.
    pub(super) horizon: Version,
    /// Rows below it can go.
    pub(super) fence: Version,
    /// Keys are divided into so many slices.
    pub(super) slices: u64,
}

fn number(version: Version) -> String {
    format!("toUInt128('{version}')")
}

/// Counts rows, and tombstones whatever their version: one column of a byte is read.
pub(super) fn glance(table: &str) -> String {
    format!(
        "SELECT count() AS rows, countIf({DELETED_COLUMN} = 1) AS tombstones, toUInt64(0) AS hidden FROM {table}"
    )
}

/// Rows about tables of a pipeline that are none of these.
pub(super) fn of_others(pipeline: &str, tables: &[&str]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| quote::literal(table)).collect();
    format!("pipeline = {} AND table NOT IN ({})", quote::literal(pipeline), tables.join(", "))
}

impl Removal {
    pub(super) fn new(database: &str, table: &str, key: String, horizon: Version, fence: Version) -> Self {
        Self { table: quote::qualified(database, table), key, horizon, fence, slices: 1 }
    }

    /// Divides the keys, so that those of a slice have room in memory.
    pub(super) fn divided(self, tombstones: u64) -> Self {
        Self { slices: tombstones.div_ceil(SLICE).max(1), ..self }
    }

    /// Counts rows, tombstones below the horizon, and rows below the fence.
    pub(super) fn counts(&self) -> String {
        format!(
            "SELECT count() AS rows, countIf({} AND {VERSION_COLUMN} >= {fence}) AS tombstones, \
             countIf({VERSION_COLUMN} < {fence}) AS hidden FROM {}",
            self.tombstone(),
            self.table,
            fence = number(self.fence),
        )
    }

    /// Counts what [`Self::remove_images`] removes.
    pub(super) fn images(&self, slice: u64) -> String {
        format!("SELECT count() AS rows FROM {} WHERE {}", self.table, self.is_image(slice))
    }

    /// Removes the older images of keys that are deleted, and what the fence hides.
    ///
    /// The keys are those whose newest row below the horizon is a tombstone. Tombstones stay meanwhile, so it does not
    /// matter when, and how often, the server finds these keys.
    pub(super) fn remove_images(&self, slice: u64) -> String {
        format!("ALTER TABLE {} DELETE WHERE {}", self.table, self.is_image(slice))
    }

    /// Removes the tombstones of keys of which nothing older is left.
    pub(super) fn remove_tombstones(&self, slice: u64) -> String {
        format!(
            "ALTER TABLE {} DELETE WHERE {} AND ({}) IN ({})",
            self.table,
            self.tombstone(),
            self.key,
            self.with_tombstone(slice)
        )
    }

    fn tombstone(&self) -> String {
        format!("{DELETED_COLUMN} = 1 AND {VERSION_COLUMN} < {}", number(self.horizon))
    }

    /// Keys of a slice that have a tombstone below the horizon.
    fn with_tombstone(&self, slice: u64) -> String {
        let of_slice = match self.slices {
            1 => String::new(),
            slices => format!(" AND sipHash64({}) % {slices} = {slice}", self.key),
        };
        format!("SELECT {} FROM {} WHERE {}{of_slice}", self.key, self.table, self.tombstone())
    }

    fn is_image(&self, slice: u64) -> String {
        let (key, horizon) = (&self.key, number(self.horizon));
        let deleted = format!(
            "SELECT {key} FROM {} WHERE {VERSION_COLUMN} < {horizon} AND ({key}) IN ({}) GROUP BY {key} \
             HAVING argMax({DELETED_COLUMN}, {VERSION_COLUMN}) = 1",
            self.table,
            self.with_tombstone(slice)
        );
        format!(
            "{VERSION_COLUMN} < {} OR ({DELETED_COLUMN} = 0 AND {VERSION_COLUMN} < {horizon} AND ({key}) IN ({deleted}))",
            number(self.fence)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removal() -> Removal {
        Removal::new("shop", "orders", "id, `Part b`".into(), Version(90), Version(40))
    }

    #[test]
    fn images_go_before_tombstones_and_by_the_same_keys() {
        let removal = removal();
        let keys =
            "SELECT id, `Part b` FROM `shop`.`orders` WHERE _is_deleted = 1 AND _version < toUInt128('90')";
        assert_eq!(
            removal.remove_images(0),
            format!(
                "ALTER TABLE `shop`.`orders` DELETE WHERE _version < toUInt128('40') OR (_is_deleted = 0 AND \
                 _version < toUInt128('90') AND (id, `Part b`) IN (SELECT id, `Part b` FROM `shop`.`orders` WHERE \
                 _version < toUInt128('90') AND (id, `Part b`) IN ({keys}) GROUP BY id, `Part b` HAVING \
                 argMax(_is_deleted, _version) = 1))"
            )
        );
        assert_eq!(
            removal.remove_tombstones(0),
            format!(
                "ALTER TABLE `shop`.`orders` DELETE WHERE _is_deleted = 1 AND _version < toUInt128('90') AND \
                 (id, `Part b`) IN ({keys})"
            )
        );
    }

    #[test]
    fn many_keys_are_divided() {
        assert_eq!(
            [0, 1, SLICE, SLICE + 1, 10 * SLICE].map(|n| removal().divided(n).slices),
            [1, 1, 1, 2, 10]
        );
        let sql = removal().divided(3 * SLICE).remove_tombstones(2);
        assert!(sql.ends_with("AND sipHash64(id, `Part b`) % 3 = 2)"), "{sql}");
    }
}
