use std::collections::BTreeSet;

use super::*;

#[test]
fn a_name_is_in_the_table_once_and_its_column_is_a_type() {
    let mut names = BTreeSet::new();
    for row in TABLE {
        for name in row.names {
            assert!(names.insert(name), "{name} is there twice");
        }
        let stored = row.stored == "Decimal(p, s)" || row.stored.parse::<ChType>().is_ok();
        assert!(stored, "{:?}: {} is no type", row.names, row.stored);
        assert!(!(row.key && row.wire == Wire::Unstreamed), "{:?}: a key must be in events", row.names);
        assert!(!(row.arrays && row.wire == Wire::Unstreamed), "{:?}: arrays of what is not sent", row.names);
    }
}

#[test]
fn modifiers_choose_the_column() {
    for (pg, wire, stored) in [
        ("numeric(12,2)", Wire::Decimal, "Decimal(12, 2)"),
        ("numeric(76,0)", Wire::Decimal, "Decimal(76, 0)"),
        ("numeric(77,0)", Wire::Decimal, "String"),
        ("numeric(3,-2)", Wire::Decimal, "Decimal(5, 0)"),
        ("numeric(2,4)", Wire::Decimal, "Decimal(4, 4)"),
        ("numeric(2,100)", Wire::Decimal, "String"),
        ("numeric", Wire::Decimal, "String"),
        ("bit", Wire::Bits, "String"),
        ("bit(128)", Wire::Bits, "String"),
        ("bit(129)", Wire::Unstreamed, "String"),
        ("interval day to second(3)", Wire::Interval, "String"),
        ("timestamp(3) with time zone", Wire::ZonedTimestamp, "DateTime64(6, 'UTC')"),
        ("extensions.hstore", Wire::Hstore, "String"),
        ("shop.address", Wire::EncodedText, "String"),
        ("public.date", Wire::EncodedText, "String"),
        ("geometry(Point,4326)", Wire::Unstreamed, "String"),
    ] {
        let (found, r#type) = scalar(pg);
        assert_eq!((found, r#type.to_string()), (wire, stored.to_owned()), "{pg}");
    }
}
