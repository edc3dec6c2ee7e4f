//! Durations, sizes and shares as the spec writes them: `300ms`, `168h`, `64Mi`, `1%`. Pure.
//!
//! The schema's patterns admit exactly what is read here; the operator never rewrites what a user wrote.

use std::time::Duration;

/// Pattern of a duration in the schema: one to three numbers with a unit of `ms`, `s`, `m` or `h`.
pub const DURATION_PATTERN: &str = "^([0-9]{1,8}(ms|s|m|h)){1,3}$";
/// Pattern of a size in the schema: bytes, with a suffix `k`, `M`, `G`, `Ki`, `Mi` or `Gi` or none.
pub const SIZE_PATTERN: &str = "^[0-9]{1,9}(k|M|G|Ki|Mi|Gi)?$";
/// Pattern of a share in the schema: per cent with at most one digit behind the point.
pub const SHARE_PATTERN: &str = "^(100|[0-9]{1,2}([.][0-9])?)%$";

/// A duration, size or share that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a duration.
    #[error("{0:?} is not a duration such as 300ms, 5s, 10m or 168h")]
    Duration(String),
    /// Not a size.
    #[error("{0:?} is not a size such as 64Mi or 1G")]
    Size(String),
    /// Not a share.
    #[error("{0:?} is not a share such as 1% or 0.5%")]
    Share(String),
}

/// Reads a duration such as `300ms` or `1h30m`.
pub fn duration(text: &str) -> Result<Duration, ParseError> {
    let error = || ParseError::Duration(text.to_owned());
    if !text.ends_with(|c: char| c.is_ascii_lowercase()) || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(error());
    }
    let parsed: kube::core::Duration = text.parse().map_err(|_| error())?;
    Ok(parsed.into())
}

/// Reads a duration in whole milliseconds.
pub fn milliseconds(text: &str) -> Result<u64, ParseError> {
    u64::try_from(duration(text)?.as_millis()).map_err(|_| ParseError::Duration(text.to_owned()))
}

/// Reads a size such as `64Mi` in bytes.
pub fn bytes(text: &str) -> Result<u64, ParseError> {
    let error = || ParseError::Size(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let unit: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(error()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(error)
}

/// Reads a share such as `1%` or `0.5%` in per mille, 0 to 1000.
pub fn per_mille(text: &str) -> Result<u32, ParseError> {
    let error = || ParseError::Share(text.to_owned());
    let number = text.strip_suffix('%').ok_or_else(error)?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str, most: usize| {
        let fits = (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if fits { part.parse::<u32>().map_err(|_| error()) } else { Err(error()) }
    };
    let share = digits(whole, 3)? * 10 + digits(tenths, 1)?;
    if share <= 1_000 { Ok(share) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("168h"), Ok(Duration::from_hours(168)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(milliseconds("5s"), Ok(5_000));
        for wrong in ["", "5", "s", "-5s", "5 s", "5d", "5S"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was read");
        }
    }

    #[test]
    fn sizes_are_read_in_bytes() {
        assert_eq!(bytes("64Mi"), Ok(64 << 20));
        assert_eq!(bytes("1G"), Ok(1_000_000_000));
        assert_eq!(bytes("123"), Ok(123));
        for wrong in ["", "Mi", "64MB", "-1", "1.5Mi", "99999999999999999999"] {
            assert!(bytes(wrong).is_err(), "{wrong:?} was read");
        }
    }

    #[test]
    fn shares_are_read_in_per_mille() {
        assert_eq!(per_mille("1%"), Ok(10));
        assert_eq!(per_mille("0.5%"), Ok(5));
        assert_eq!(per_mille("100%"), Ok(1_000));
        for wrong in ["1", "101%", "0.55%", "%", ".5%", "-1%", "+1%"] {
            assert!(per_mille(wrong).is_err(), "{wrong:?} was read");
        }
    }
}
