//! Positions of PostgreSQL's log as text. Pure.

use std::fmt;
use std::str::FromStr;

/// A position of the write-ahead log, in bytes; as text two hexadecimal numbers, `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// It is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a position of the log such as 16/B374D848")]
pub struct NoLsn;

impl FromStr for Lsn {
    type Err = NoLsn;

    fn from_str(text: &str) -> Result<Self, NoLsn> {
        let (high, low) = text.split_once('/').ok_or(NoLsn)?;
        let half = |digits: &str| {
            let is_right = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if is_right { u64::from_str_radix(digits, 16).map_err(|_| NoLsn) } else { Err(NoLsn) }
        };
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_and_written_as_postgresql_does() {
        for (text, lsn) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
            ("1/A", 0x1_0000_000A),
        ] {
            assert_eq!(text.parse(), Ok(Lsn(lsn)));
            assert_eq!(Lsn(lsn).to_string(), text);
        }
        assert_eq!(
            "16/0374D848".parse(),
            Ok(Lsn(0x16_0374_D848)),
            "with zeros in front, as newer servers write it"
        );
        for wrong in ["", "/", "16", "16/", "/16", "16/123456789", "+1/1", "1/1/1", "g/0", " 1/1"] {
            assert_eq!(wrong.parse::<Lsn>(), Err(NoLsn), "{wrong:?}");
        }
    }
}
