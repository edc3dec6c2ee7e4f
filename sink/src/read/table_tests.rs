//! Rows of lines, and a layout for the tests of reads.

use std::sync::Arc;

use tidemark_crds::layout::{Begin, ColumnLayout, NullAs, OutOfRange, Storage, TableLayout, Wire};
use tidemark_crds::types::ChType;
use tidemark_crds::version::{Phase, Version};

use super::ReadError;
use super::barrier::Barrier;
use super::copy::{RowBuilder, expressions};
use crate::batch::Batch;
use crate::plan::{Encoding, TablePlan};

/// `notes(id bigint, note text, price numeric(10,2))`, and what else a test adds.
pub(crate) fn layout() -> TableLayout {
    TableLayout {
        version: 3,
        source: "public.notes".parse().unwrap(),
        oid: 16_400,
        target: "notes".into(),
        from: Begin::default(),
        columns: vec![
            column("id", 1, "bigint", Wire::Int, ChType::Int64, Some(0)),
            column("note", 2, "text", Wire::Text, ChType::String.nullable(), None),
            column(
                "price",
                3,
                "numeric(10,2)",
                Wire::Decimal,
                ChType::Decimal { precision: 10, scale: 2 },
                None,
            ),
        ],
        left_out: vec![],
        full_before: false,
        partition_by: None,
        storage: Storage::default(),
        definitions: std::collections::BTreeMap::new(),
        read_again: None,
    }
}

pub(crate) fn column(
    name: &str,
    attnum: i16,
    pg_type: &str,
    wire: Wire,
    r#type: ChType,
    key: Option<u16>,
) -> ColumnLayout {
    ColumnLayout {
        source: name.into(),
        target: name.into(),
        stored: name.into(),
        attnum,
        pg_type: pg_type.into(),
        wire,
        array: false,
        r#type,
        key,
        out_of_range: OutOfRange::DeadLetter,
        missing: None,
        null_as: NullAs::Null,
    }
}

pub(crate) fn plan(layout: TableLayout) -> Arc<TablePlan> {
    Arc::new(TablePlan::new(Arc::new(layout), Encoding::Contract).unwrap())
}

fn dated(policy: OutOfRange) -> TableLayout {
    let mut layout = layout();
    let date = ChType::Date32.nullable();
    layout
        .columns
        .push(ColumnLayout { out_of_range: policy, ..column("due", 4, "date", Wire::Date, date, None) });
    layout
}

fn builder(plan: &Arc<TablePlan>) -> RowBuilder {
    let barrier = Barrier { lsn: 0x16_B374_D848, at: 1_790_000_000_123 };
    RowBuilder::new(Arc::clone(plan), 7, barrier, "shop.public.notes".into(), 10)
}

fn row(batch: &Batch, row: usize) -> Vec<Vec<u8>> {
    let value = |column: &crate::native::Column| {
        let mut bytes = Vec::new();
        column.row_binary(row, &mut bytes);
        bytes
    };
    batch.columns.iter().map(value).collect()
}

#[test]
fn a_line_becomes_a_row_at_the_barriers_version() {
    let plan = plan(layout());
    let (mut builder, mut batch) = (builder(&plan), Batch::new(Arc::clone(&plan)).unwrap());
    assert_eq!(expressions(&plan), "\"id\", \"note\", \"price\"");
    for line in [&b"-5\ta\\tb\t12.50"[..], b"9223372036854775807\t\\N\t-0.01"] {
        assert!(builder.append(&mut batch, line).unwrap());
    }
    assert_eq!(batch.version_of(1), (Version::new(7, Phase::Stream, 0x16_B374_D848, 0), false));
    assert_eq!(batch.commit_times().collect::<Vec<_>>(), [1_790_000_000_123; 2]);
    let number = |value: i64| value.to_le_bytes().to_vec();
    assert_eq!(row(&batch, 0), [number(-5), b"\0\x03a\tb".to_vec(), number(1250)]);
    assert_eq!(row(&batch, 1), [number(i64::MAX), vec![1], number(-1)]);
}

#[test]
fn a_value_that_does_not_fit_fails_the_read_by_name_and_leaves_no_half_row() {
    let plan = plan(layout());
    let (mut builder, mut batch) = (builder(&plan), Batch::new(Arc::clone(&plan)).unwrap());
    builder.append(&mut batch, b"1\ta\t1.00").unwrap();
    for (line, column) in [
        (&b"2\ta\tmany"[..], "price"),
        (b"2\ta\t123456789.00", "price"),
        (b"2\ta\t\\N", "price"),
        (b"two\ta\t1.00", "id"),
    ] {
        match builder.append(&mut batch, line).expect_err(&String::from_utf8_lossy(line)) {
            ReadError::Value { table, column: named, key, .. } => {
                assert_eq!((table.as_str(), named.as_str()), ("public.notes", column));
                assert!(key.starts_with("{\"id\":\"") && !key.contains("note"), "{key}");
            }
            other => panic!("{other}"),
        }
    }
    assert!(matches!(builder.append(&mut batch, b"3\ta"), Err(ReadError::Refused { .. })));
    assert!(matches!(builder.append(&mut batch, b"3\ta\t1.00\tx"), Err(ReadError::Refused { .. })));
    assert!(builder.append(&mut batch, b"4\tb\t4.00").unwrap());
    assert_eq!((batch.rows(), row(&batch, 1)[0].clone()), (2, 4_i64.to_le_bytes().to_vec()));
}

#[test]
fn what_is_out_of_range_is_null_or_a_dead_letter_as_the_column_says() {
    let line = b"1\ta\t1.00\tinfinity";
    let plan_null = plan(dated(OutOfRange::Null));
    let mut batch = Batch::new(Arc::clone(&plan_null)).unwrap();
    assert!(builder(&plan_null).append(&mut batch, line).unwrap());
    assert_eq!(row(&batch, 0)[3], [1]);
    let plan = plan(dated(OutOfRange::DeadLetter));
    let (mut builder, mut batch) = (builder(&plan), Batch::new(Arc::clone(&plan)).unwrap());
    assert!(!builder.append(&mut batch, line).unwrap());
    assert_eq!(builder.key_of(line).unwrap(), 1_i64.to_le_bytes());
    let letter = &batch.dead[0];
    assert_eq!(letter.topic, "shop.public.notes");
    assert_eq!(letter.key.as_deref(), Some(&b"{\"id\":\"1\"}"[..]));
    let payload = std::str::from_utf8(letter.payload.as_deref().unwrap()).unwrap();
    assert_eq!(payload, r#"{"due":"infinity","id":"1","note":"a","price":"1.00"}"#);
    assert!(letter.error.contains("due"), "{}", letter.error);
}

#[test]
fn a_read_whose_rows_die_by_the_dozen_fails() {
    let plan = plan(dated(OutOfRange::DeadLetter));
    let (mut builder, mut batch) = (builder(&plan), Batch::new(Arc::clone(&plan)).unwrap());
    let line = b"1\ta\t1.00\tinfinity";
    let results: Vec<_> = (0..11).map(|_| builder.append(&mut batch, line)).collect();
    assert!(results[..10].iter().all(Result::is_ok));
    assert!(matches!(results[10], Err(ReadError::DeadLetters { .. })));
}
