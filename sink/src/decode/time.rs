//! Dates and times as Debezium writes them: ISO 8601 text, and what the target types can hold. Pure.

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
pub const DAY: i64 = 86_400 * SECOND;
/// First and last day that `Date32` and `DateTime64` hold: 1900-01-01 and 2299-12-31.
const DAYS: std::ops::RangeInclusive<i64> = -25_567..=120_529;
/// Mean month in microseconds, with which Debezium turns the months of an interval into time.
const MONTH: i64 = 2_629_800 * SECOND;

/// Why a text is not a time of the target type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeError {
    /// It is no date or time.
    Malformed,
    /// It is a time that the type cannot hold.
    OutOfRange,
}

/// A place in time, or one of its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instant {
    /// `-infinity`.
    Past,
    /// `infinity`.
    Future,
    /// A moment.
    At {
        /// Days since 1970-01-01.
        days: i64,
        /// Microseconds of the day.
        micros: i64,
    },
}

/// The day that `Date32` holds and that is nearest to another.
pub fn nearest_date32(days: i64) -> i64 {
    days.clamp(*DAYS.start(), *DAYS.end())
}

/// The microsecond that `DateTime64` holds and that is nearest to another.
pub fn nearest_datetime64(micros: i64) -> i64 {
    micros.clamp(*DAYS.start() * DAY, (*DAYS.end() + 1) * DAY - 1)
}

/// Whether `Date32` holds the day, counted from 1970-01-01.
pub fn fits_date32(days: i64) -> bool {
    DAYS.contains(&days)
}

/// Whether `DateTime64` holds the instant, in microseconds since 1970-01-01.
pub fn fits_datetime64(micros: i64) -> bool {
    DAYS.contains(&micros.div_euclid(DAY))
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar, years counted astronomically.
pub fn days_of_date(year: i64, month: i64, day: i64) -> i64 {
    // Years that start in March put the leap day last.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads `2024-02-29T21:59:59.999999Z`, also with an offset, a space instead of `T`, ` BC` at its end, or a date alone,
/// as microseconds since 1970-01-01 UTC; a text without offset is taken as UTC.
///
/// What is beyond 64 bits, and infinity, is the greatest or least number of all.
#[inline]
pub fn parse_timestamp(text: &[u8]) -> Result<i64, TimeError> {
    if let Some(micros) = parse_common_timestamp(text) {
        return Ok(micros);
    }
    Ok(match parse_instant(text)? {
        Instant::Past => i64::MIN,
        Instant::Future => i64::MAX,
        Instant::At { days, micros } => days.saturating_mul(DAY).saturating_add(micros),
    })
}

/// Reads what [`parse_timestamp`] reads, without loss.
pub fn parse_instant(text: &[u8]) -> Result<Instant, TimeError> {
    let mut reader = Reader { text };
    if let Some(infinity) = reader.infinite() {
        return Ok(infinity);
    }
    let (year, month, day) = reader.date()?;
    let mut micros = 0;
    if reader.take(b'T') || reader.take(b' ') {
        micros = reader.time_of_day()?;
    }
    micros -= reader.offset()?;
    let days = reader.days(year, month, day)?;
    reader.finish()?;
    Ok(Instant::At { days: days + micros.div_euclid(DAY), micros: micros.rem_euclid(DAY) })
}

/// The form of nearly all values: `YYYY-MM-DDThh:mm:ss[.ffffff]Z`.
#[inline]
fn parse_common_timestamp(text: &[u8]) -> Option<i64> {
    let digit = |at: usize| {
        let value = text[at].wrapping_sub(b'0');
        (value <= 9).then_some(i64::from(value))
    };
    let two = |at: usize| Some(digit(at)? * 10 + digit(at + 1)?);
    let length = text.len();
    if !(20..=27).contains(&length) || text[length - 1] != b'Z' {
        return None;
    }
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    if !(1..=12).contains(&month)
        || !(1..=days_in_month(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let mut fraction = 0;
    if length > 20 {
        if text[19] != b'.' || length == 21 {
            return None;
        }
        let mut unit = SECOND / 10;
        for at in 20..length - 1 {
            fraction += digit(at)? * unit;
            unit /= 10;
        }
    }
    let seconds = (days_of_date(year, month, day) * 24 + hour) * 3600 + minute * 60 + second;
    Some(seconds * SECOND + fraction)
}

/// Reads `2024-02-29`, also with ` BC` or an offset that is ignored, as days since 1970-01-01; infinity is the
/// greatest or least number of all.
pub fn parse_date(text: &[u8]) -> Result<i64, TimeError> {
    let mut reader = Reader { text };
    if let Some(infinity) = reader.infinite() {
        return Ok(if infinity == Instant::Future { i64::MAX } else { i64::MIN });
    }
    let (year, month, day) = reader.date()?;
    reader.offset()?;
    let days = reader.days(year, month, day)?;
    reader.finish()?;
    Ok(days)
}

/// Reads a time of day `08:30:15.5` or an ISO 8601 duration `P0Y0M1DT2H0M3.5S` as microseconds.
pub fn parse_micros(text: &[u8]) -> Result<i64, TimeError> {
    let mut reader = Reader { text };
    if text.contains(&b'P') {
        return reader.duration();
    }
    let micros = reader.time_of_day()?;
    reader.offset()?;
    reader.finish()?;
    Ok(micros)
}

struct Reader<'a> {
    text: &'a [u8],
}

impl Reader<'_> {
    fn take(&mut self, byte: u8) -> bool {
        match self.text.split_first() {
            Some((first, rest)) if *first == byte => {
                self.text = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), TimeError> {
        if self.take(byte) { Ok(()) } else { Err(TimeError::Malformed) }
    }

    fn finish(&self) -> Result<(), TimeError> {
        if self.text.is_empty() { Ok(()) } else { Err(TimeError::Malformed) }
    }

    fn infinite(&self) -> Option<Instant> {
        let (text, infinity) = match self.text.strip_prefix(b"-") {
            Some(rest) => (rest, Instant::Past),
            None => (self.text.strip_prefix(b"+").unwrap_or(self.text), Instant::Future),
        };
        text.eq_ignore_ascii_case(b"infinity").then_some(infinity)
    }

    /// Days of a date that may be followed by ` BC`.
    fn days(&mut self, year: i64, month: i64, day: i64) -> Result<i64, TimeError> {
        let year = if self.text == b" BC" {
            self.text = &[];
            1 - year
        } else {
            year
        };
        if day > days_in_month(year, month) {
            Err(TimeError::Malformed)
        } else {
            Ok(days_of_date(year, month, day))
        }
    }

    /// Takes between `least` and `most` digits.
    fn digits(&mut self, least: usize, most: usize) -> Result<i64, TimeError> {
        let count = self.text.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        if count < least {
            return Err(TimeError::Malformed);
        }
        let (digits, rest) = self.text.split_at(count);
        self.text = rest;
        Ok(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }

    /// Year, month and day; whether the month has the day is not known before the era is.
    fn date(&mut self) -> Result<(i64, i64, i64), TimeError> {
        let negative = self.take(b'-');
        if !negative {
            self.take(b'+');
        }
        let year = self.digits(4, 9)?;
        self.expect(b'-')?;
        let month = self.digits(2, 2)?;
        self.expect(b'-')?;
        let day = self.digits(2, 2)?;
        let year = if negative { -year } else { year };
        if (1..=12).contains(&month) && day >= 1 { Ok((year, month, day)) } else { Err(TimeError::Malformed) }
    }

    /// `hh:mm[:ss[.fraction]]`; 24:00 is the end of the day, as in PostgreSQL.
    fn time_of_day(&mut self) -> Result<i64, TimeError> {
        let hour = self.digits(2, 2)?;
        self.expect(b':')?;
        let minute = self.digits(2, 2)?;
        let (mut second, mut fraction) = (0, 0);
        if self.take(b':') {
            second = self.digits(2, 2)?;
            fraction = self.fraction()?;
        }
        if hour > 24 || minute > 59 || second > 60 {
            return Err(TimeError::Malformed);
        }
        Ok(((hour * 60 + minute) * 60 + second) * SECOND + fraction)
    }

    /// `.5` as microseconds; further digits are cut, there are none in PostgreSQL.
    fn fraction(&mut self) -> Result<i64, TimeError> {
        if !self.take(b'.') {
            return Ok(0);
        }
        let before = self.text.len();
        let value = self.digits(1, 6)?;
        let digits = before - self.text.len();
        while self.text.first().is_some_and(u8::is_ascii_digit) {
            self.text = &self.text[1..];
        }
        Ok((digits..6).fold(value, |value, _| value * 10))
    }

    /// `Z`, `+02`, `+02:00`, `+0200` or nothing, as microseconds east of UTC.
    fn offset(&mut self) -> Result<i64, TimeError> {
        if self.take(b'Z') {
            return Ok(0);
        }
        let sign = if self.take(b'+') {
            1
        } else if self.take(b'-') {
            -1
        } else {
            return Ok(0);
        };
        let mut seconds = self.digits(2, 2)? * 3600;
        for unit in [60, 1] {
            self.take(b':');
            if self.text.first().is_some_and(u8::is_ascii_digit) {
                seconds += self.digits(2, 2)? * unit;
            }
        }
        Ok(sign * seconds * SECOND)
    }

    fn duration(&mut self) -> Result<i64, TimeError> {
        let negative = self.take(b'-');
        self.expect(b'P')?;
        let mut total = 0_i64;
        let mut in_time = false;
        while !self.text.is_empty() {
            if self.take(b'T') {
                in_time = true;
                continue;
            }
            let minus = self.take(b'-');
            let value = self.digits(1, 12)?;
            let fraction = self.fraction()?;
            let unit = match (self.text.split_first(), in_time) {
                (Some((b'Y', _)), false) => 12 * MONTH,
                (Some((b'M', _)), false) => MONTH,
                (Some((b'D', _)), false) => DAY,
                (Some((b'H', _)), true) => 3600 * SECOND,
                (Some((b'M', _)), true) => 60 * SECOND,
                (Some((b'S', _)), true) => SECOND,
                _ => return Err(TimeError::Malformed),
            };
            self.text = &self.text[1..];
            let part = value.checked_mul(unit).and_then(|part| part.checked_add(fraction * (unit / SECOND)));
            let part = part.ok_or(TimeError::OutOfRange)?;
            total = total.checked_add(if minus { -part } else { part }).ok_or(TimeError::OutOfRange)?;
        }
        Ok(if negative { -total } else { total })
    }
}

/// Year, month and day of a day counted from 1970-01-01, years counted astronomically.
pub fn date_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instants_of_every_form_are_read() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T21:59:59.999999Z", 1_709_243_999_999_999),
            ("2024-02-29T23:59:59.999999+02:00", 1_709_243_999_999_999),
            ("2024-06-01T10:00:00.5Z", 1_717_236_000_500_000),
            ("2024-02-29 21:59:59+00", 1_709_243_999_000_000),
            ("1969-12-31T23:59:59.999999Z", -1),
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), Ok(micros), "{text}");
        }
    }

    #[test]
    fn infinity_and_ancient_years_do_not_fit_and_nonsense_is_malformed() {
        assert_eq!(parse_timestamp(b"infinity"), Ok(i64::MAX));
        assert_eq!(parse_timestamp(b"-infinity"), Ok(i64::MIN));
        assert_eq!(parse_timestamp(b"294276-12-31 23:59:59.999999+00"), Ok(i64::MAX));
        assert_eq!(parse_date(b"-infinity"), Ok(i64::MIN));
        assert_eq!(parse_date(b"0001-02-29 BC"), Ok(days_of_date(0, 2, 29)));
        assert!(!fits_datetime64(parse_timestamp(b"-0043-03-15T12:00:00.000000Z").unwrap()));
        for text in ["", "2024", "2024-02-30T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00Zx"] {
            assert_eq!(parse_timestamp(text.as_bytes()), Err(TimeError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_range_of_the_types_ends_where_clickhouse_ends_it() {
        let day = |text: &str| parse_date(text.as_bytes()).unwrap();
        assert!(fits_date32(day("1900-01-01")) && fits_date32(day("2299-12-31")));
        assert!(!fits_date32(day("1899-12-31")) && !fits_date32(day("2300-01-01")));
        assert!(fits_datetime64(parse_timestamp(b"2299-12-31T23:59:59.999999Z").unwrap()));
        assert!(!fits_datetime64(parse_timestamp(b"2300-01-01T00:00:00Z").unwrap()));
    }

    #[test]
    fn times_and_durations_become_microseconds() {
        assert_eq!(parse_micros(b"08:30:15.5Z"), Ok(30_615_500_000));
        assert_eq!(parse_micros(b"P0Y0M1DT2H0M3.5S"), Ok(93_603_500_000));
        assert_eq!(parse_micros(b"P0Y-1M0DT0H0M0S"), Ok(-MONTH));
        assert_eq!(parse_date(b"1960-02-23Z"), Ok(-3600));
    }

    proptest! {
        #[test]
        fn a_date_is_that_of_its_day(days in -3_000_000_i64..3_000_000_000) {
            let (year, month, day) = date_of_days(days);
            prop_assert_eq!(days_of_date(year, month, day), days);
        }

        #[test]
        fn instants_agree_with_jiff(micros in -2_000_000_000_000_000_i64..10_000_000_000_000_000) {
            let text = jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
            prop_assert_eq!(parse_timestamp(text.as_bytes()), Ok(micros));
        }

        #[test]
        fn the_quick_path_agrees_with_the_general_one(text in "[0-9]{4}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?Z") {
            let quick = parse_common_timestamp(text.as_bytes());
            let with_offset = text.replace('Z', "+00:00");
            if let Some(quick) = quick {
                prop_assert_eq!(parse_timestamp(with_offset.as_bytes()), Ok(quick));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (parse_timestamp(&text), parse_date(&text), parse_micros(&text));
        }
    }
}
