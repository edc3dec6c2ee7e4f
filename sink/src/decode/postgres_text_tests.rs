use proptest::prelude::*;

use super::*;

fn text(print: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    print(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn floats_are_printed_as_postgresql_does() {
    for (number, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (1e15, "1e+15"),
        (123_456_789_012_345.0, "123456789012345"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (5e-324, "5e-324"),
        (9_007_199_254_740_993.0, "9.007199254740992e+15"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::NAN, "NaN"),
        (f64::NEG_INFINITY, "-Infinity"),
        (100.0, "100"),
        (-2.25, "-2.25"),
    ] {
        assert_eq!(text(|out| float8(number, out)), expected);
    }
    for (number, expected) in [
        (16_777_216.0_f32, "1.6777216e+07"),
        (123_456.79, "123456.79"),
        (1e-45, "1e-45"),
        (f32::MAX, "3.4028235e+38"),
    ] {
        assert_eq!(text(|out| float4(number, out)), expected);
    }
}

#[test]
fn intervals_keep_the_sign_of_each_part() {
    for (iso, expected) in [
        ("P0Y0M0DT0H0M0S", "00:00:00"),
        ("P1Y2M3DT4H5M6.789S", "1 year 2 mons 3 days 04:05:06.789"),
        ("P-1Y-2M3DT-4H-5M-6.789S", "-1 years -2 mons +3 days -04:05:06.789"),
        ("P0Y1M-1DT0H0M0S", "1 mon -1 days"),
        ("P0Y0M0DT0H0M-0.000001S", "-00:00:00.000001"),
        ("P0Y0M-1DT0H0M1.5S", "-1 days +00:00:01.5"),
        ("P0Y0M0DT999999999H0M0S", "999999999:00:00"),
    ] {
        let mut out = Vec::new();
        assert!(interval(iso.as_bytes(), &mut out), "{iso}");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    for iso in ["", "P", "1Y", "P1", "P1X", "PT1.5H", "PT1.0000001S", "P99999999999999999999Y"] {
        assert!(!interval(iso.as_bytes(), &mut Vec::new()) || iso == "P", "{iso}");
    }
}

#[test]
fn an_hstore_has_postgresqls_order_and_quotes() {
    let mut out = Vec::new();
    hstore(br#"{"bb":"1","a":null,"c\"\\":"x"}"#, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), r#""a"=>NULL, "bb"=>"1", "c\"\\"=>"x""#);
    assert!(hstore(b"{\"a\":1}", &mut Vec::new()).is_err());
}

#[test]
fn bits_keep_the_length_of_their_type() {
    let printed = |bytes: &[u8], count| {
        let mut out = Vec::new();
        bits(bytes, count, &mut out).then(|| String::from_utf8(out).unwrap())
    };
    assert_eq!(printed(&[0x16], 5).as_deref(), Some("10110"));
    assert_eq!(printed(&[], 3).as_deref(), Some("000"));
    assert_eq!(printed(&[0, 1], 9).as_deref(), Some("100000000"));
    assert_eq!(printed(&[0x16], 4), None);
}

proptest! {
    #[test]
    fn a_float_reads_back(number in any::<f64>(), small in any::<f32>()) {
        let read: f64 = text(|out| float8(number, out)).parse().unwrap();
        prop_assert!(read.total_cmp(&number).is_eq() || number.is_nan() && read.is_nan());
        let read: f32 = text(|out| float4(small, out)).parse().unwrap();
        prop_assert!(read.total_cmp(&small).is_eq() || small.is_nan() && read.is_nan());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut out = Vec::new();
        let _ = (interval(&bytes, &mut out), geometric(&bytes, &mut out), hstore(&bytes, &mut out));
    }
}
