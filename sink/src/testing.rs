//! Layouts and records for tests of this crate.

use tidemark_crds::layout::{Begin, ColumnLayout, NullAs, OutOfRange, Storage, TableLayout, Wire};
use tidemark_crds::ledger::EPOCH_HEADER;

use crate::dead_letter::DeadLetter;

pub(crate) fn column(
    name: &str,
    attnum: i16,
    pg_type: &str,
    ch_type: &str,
    key: Option<u16>,
) -> ColumnLayout {
    ColumnLayout {
        source: name.to_owned(),
        target: name.to_owned(),
        stored: name.to_owned(),
        attnum,
        pg_type: pg_type.to_owned(),
        wire: if ch_type.contains("Int") { Wire::Int } else { Wire::Text },
        array: false,
        r#type: ch_type.parse().unwrap(),
        key,
        out_of_range: OutOfRange::DeadLetter,
        missing: None,
        null_as: NullAs::Null,
    }
}

pub(crate) fn layout(target: &str, columns: Vec<ColumnLayout>) -> TableLayout {
    TableLayout {
        version: 1,
        source: format!("public.{target}").parse().unwrap(),
        oid: 1,
        target: target.to_owned(),
        from: Begin::default(),
        columns,
        left_out: vec![],
        full_before: false,
        partition_by: None,
        storage: Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
    }
}

/// An event with its epoch; `lsn` is its position, and that of the commit before it.
pub(crate) fn event(partition: i32, offset: i64, op: &str, row: &str, lsn: u64) -> DeadLetter {
    let (before, after) = if op == "d" { (row, "null") } else { ("null", row) };
    let payload = format!(
        r#"{{"before":{before},"after":{after},"source":{{"ts_ms":5,"snapshot":"false","sequence":"[\"{lsn}\",\"{lsn}\"]","lsn":{lsn}}},"op":"{op}"}}"#
    );
    DeadLetter {
        topic: "t".to_owned(),
        partition,
        offset,
        payload: Some(payload.into_bytes()),
        headers: vec![(EPOCH_HEADER.to_owned(), Some(b"1".to_vec()))],
        ..DeadLetter::default()
    }
}
