//! `spec.tables`: what is captured, and the columns that are not taken as they come. Pure.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use crate::layout::OutOfRange;

/// A table to capture.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new(
        "(has(self.target) ? self.target : self.name.split('.')[1]) == \
         (has(oldSelf.target) ? oldSelf.target : oldSelf.name.split('.')[1])"
    ).message("a table's target is immutable: remove the table and add it again under the new target, or make a new pipeline"),
    validation = Rule::new(
        "has(self.partitionBy) == has(oldSelf.partitionBy) && \
         (!has(self.partitionBy) || self.partitionBy == oldSelf.partitionBy)"
    ).message("a table's partitionBy is immutable: make a new pipeline beside this one, then switch"),
    validation = Rule::new(
        "!(has(self.target) ? self.target : self.name.split('.')[1]).startsWith('_tidemark')"
    ).message("targets that start with _tidemark are kept for Tidemark's own tables: set another target"),
)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// `schema.table` at the source.
    #[schemars(schema_with = "bounds::source_table")]
    pub name: String,
    /// State table in the target database, unique and immutable; absent: the table's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::object_in_clickhouse")]
    pub target: Option<String>,
    /// Partition expression over key columns; immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::line")]
    pub partition_by: Option<String>,
    /// Columns that are not taken as they come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 256))]
    pub columns: Vec<Column>,
}

impl Table {
    /// A table that is taken as it comes.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), target: None, partition_by: None, columns: Vec::new() }
    }

    /// Name of the state table: `target`, or the table's own name.
    pub fn target_name(&self) -> &str {
        let own = self.name.split_once('.').map_or(self.name.as_str(), |(_, name)| name);
        self.target.as_deref().unwrap_or(own)
    }
}

/// A column that is not taken as it comes.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!self.exclude || !(has(self.target) || has(self.type) || has(self.outOfRange))")
        .message("an excluded column takes no target, type or outOfRange"),
)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// Name at the source.
    #[schemars(schema_with = "bounds::column_name")]
    pub name: String,
    /// Name in the state table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::column_name")]
    pub target: Option<String>,
    /// ClickHouse type in place of the mapped one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::line")]
    pub r#type: Option<String>,
    /// Leaves the column out.
    #[serde(default)]
    pub exclude: bool,
    /// What becomes of a value that does not fit; absent: NULL where nullable, else the nearest that fits, and for a
    /// key the dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_range: Option<OutOfRange>,
}
