use serde_json::json;

use super::*;

/// Whether PostgreSQL's text and ClickHouse's answer are the same value.
fn equal(source: &str, target: &str, text: Option<&str>, answer: &Value) -> bool {
    let kind = Kind::of(source, target, false);
    let nullable = target.starts_with("Nullable(") || target.starts_with("LowCardinality(Nullable(");
    canonical(&kind, text, nullable) == kind.answered(answer)
}

#[test]
fn null_equals_null_alone() {
    assert!(equal("text", "Nullable(String)", None, &Value::Null));
    assert!(!equal("text", "Nullable(String)", None, &json!("")));
    assert!(!equal("text", "Nullable(String)", Some(""), &Value::Null));
    assert!(!equal("text", "Nullable(String)", Some("NULL"), &Value::Null));
    assert!(!equal("integer[]", "Array(Nullable(Int32))", None, &json!([])));
    assert!(!equal("integer[]", "Array(Nullable(Int32))", Some("{}"), &Value::Null));
}

#[test]
fn a_string_is_postgresql_s_text_letter_by_letter() {
    assert!(equal("integer[]", "String", Some("{{1,2},{3,4}}"), &json!("{{1,2},{3,4}}")));
    assert!(!equal("integer[]", "String", Some("{1,2}"), &json!("[1,2]")));
    assert!(!equal("bit(5)", "String", Some("10110"), &json!("FQ==")));
    assert!(!equal("jsonb", "String", Some("{\"a\": 1}"), &json!("{\"a\":1}")));
    assert!(!equal("character(3)", "String", Some("a  "), &json!("a")));
    assert!(!equal("numeric", "String", Some("1.50"), &json!("1.5")));
    assert!(equal("date", "String", Some("0044-03-15 BC"), &json!("0044-03-15 BC")));
}

#[test]
fn numbers_are_values() {
    assert!(equal("numeric(10,2)", "Decimal(10, 2)", Some("1.50"), &json!("1.50")));
    assert!(!equal("numeric(10,2)", "Decimal(10, 2)", Some("1.50"), &json!("1.51")));
    assert!(equal("integer", "Decimal(10, 2)", Some("100"), &json!("100.00")));
    assert!(!equal("integer", "Decimal(10, 2)", Some("100"), &json!("1")));
    assert!(equal("double precision", "Float64", Some("-Infinity"), &json!("-inf")));
    assert!(!equal("double precision", "Float64", Some("-0"), &json!("0")));
    assert!(!equal("double precision", "Float64", Some("0.1"), &json!("0.10000000000000002")));
    assert!(equal("boolean", "Bool", Some("t"), &json!("true")));
    assert!(!equal("boolean", "Bool", Some("t"), &json!("false")));
}

#[test]
fn money_and_keys_are_numbers() {
    assert!(equal("money", "Decimal(22, 3)", Some("-$92,233.08"), &json!("-92233.080")));
    assert!(!equal("money", "Decimal(22, 3)", Some("$1.00"), &json!("10.000")));
    let key = Kind::of("numeric", "String", true);
    assert_eq!(canonical(&key, Some("1.00"), false), key.answered(&json!("1")));
    assert_ne!(canonical(&key, Some("1.01"), false), key.answered(&json!("1")));
}

#[test]
fn times_are_compared_to_the_microsecond() {
    let kind = "Nullable(DateTime64(6, 'UTC'))";
    let zoned = "timestamp(6) with time zone";
    assert!(equal(zoned, kind, Some("2026-01-05 10:00:00.12+00"), &json!("2026-01-05 10:00:00.120000")));
    assert!(!equal(zoned, kind, Some("2026-01-05 10:00:00.12+00"), &json!("2026-01-05 10:00:00.120001")));
    assert!(equal("time without time zone", "Int64", Some("00:00:01.5"), &json!("1500000")));
    assert!(!equal("time without time zone", "Int64", Some("00:00:01.5"), &json!("1")));
    assert!(equal("interval", "Int64", Some("1 day -00:00:01"), &json!("86399000000")));
}

#[test]
fn what_is_out_of_range_is_null_or_the_nearest() {
    assert!(equal("date", "Nullable(Date32)", Some("0044-03-15 BC"), &Value::Null));
    assert!(equal("date", "Date32", Some("9999-12-31"), &json!("2299-12-31")));
    assert!(!equal("date", "Date32", Some("9999-12-31"), &json!("1970-01-01")));
    assert!(!equal("date", "Nullable(Date32)", Some("2026-01-01"), &Value::Null));
    assert!(equal("numeric(4,2)", "Decimal(4, 2)", Some("NaN"), &json!("0.00")));
    assert!(equal("numeric(4,2)", "Decimal(4, 2)", Some("-Infinity"), &json!("-99.99")));
    let kind = "DateTime64(6, 'UTC')";
    assert!(equal("timestamp with time zone", kind, Some("infinity"), &json!("2299-12-31 23:59:59.999999")));
}

#[test]
fn arrays_are_compared_element_by_element() {
    let text = "Array(Nullable(String))";
    assert!(equal(
        "text[]",
        text,
        Some(r#"{a,"b,c","NULL",NULL,"\"",""}"#),
        &json!(["a", "b,c", "NULL", null, "\"", ""])
    ));
    assert!(!equal("text[]", text, Some(r#"{"NULL"}"#), &json!([null])));
    assert!(!equal("text[]", text, Some("{{a},{b}}"), &json!([null, null])));
    assert!(!equal("text[]", text, Some("[0:1]={a,b}"), &json!(["a", "b"])));
    assert!(equal("bytea[]", text, Some(r#"{"\\xab","\\x"}"#), &json!(["ab", ""])));
    assert!(equal("boolean[]", "Array(Nullable(Bool))", Some("{t,NULL}"), &json!(["true", null])));
    assert!(!equal("numeric[]", text, Some("{1.5}"), &json!([])));
}

#[test]
fn bounds_of_an_array_s_text_are_left_out() {
    assert!(equal("integer[]", "Nullable(String)", Some("[0:1]={1,2}"), &json!("{1,2}")));
    assert!(equal("text[]", "String", Some("{[0:1]={1}"), &json!("{[0:1]={1}")));
    assert!(!equal("integer[]", "String", Some("{1,2}"), &json!("{1,3}")));
}

#[test]
fn bytes_and_pairs_have_one_text() {
    assert!(equal("bytea", "Nullable(String)", Some("\\xab00"), &json!("ab00")));
    assert!(!equal("bytea", "Nullable(String)", Some("\\xab00"), &json!("ab")));
    let own = r#""a"=>"1", "b"=>NULL"#;
    assert!(equal("hstore", "String", Some(own), &json!(r#"{"b":null,"a":"1"}"#)));
    assert!(equal("hstore", "String", Some(own), &json!(own)));
    let marker = r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#;
    assert!(!equal("hstore", "String", Some(own), &json!(marker)));
}
