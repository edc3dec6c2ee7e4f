//! Decimal numbers as scaled integers of ClickHouse's widths. Pure.

use std::borrow::Cow;

/// Most digits of a ClickHouse decimal.
const MAX_DIGITS: usize = 76;

/// Why a text is not a value of a decimal type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalError {
    /// It is no decimal number.
    Malformed,
    /// It is infinity or NaN, which no decimal type has.
    OutOfRange,
    /// A type of more digits would hold it.
    TooWide,
}

/// A whole number of up to 256 bits in two's complement, least significant word first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Int256([u64; 4]);

impl Int256 {
    /// Little-endian bytes; the first ones are the number in a narrower type.
    pub fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_i128(value: i128) -> Self {
        let words = value.to_le_bytes();
        let (words, _) = words.as_chunks::<8>();
        let fill = if value < 0 { u64::MAX } else { 0 };
        Self([u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]), fill, fill])
    }

    /// `self * 10 + digit`, for numbers that are not negative.
    fn push_digit(&mut self, digit: u8) {
        let mut carry = u128::from(digit);
        for word in &mut self.0 {
            let product = u128::from(*word) * 10 + carry;
            *word = u64::try_from(product & u128::from(u64::MAX)).expect("masked to 64 bits");
            carry = product >> 64;
        }
    }

    fn negated(self) -> Self {
        let mut carry = true;
        Self(self.0.map(|word| {
            let (word, overflow) = (!word).overflowing_add(u64::from(carry));
            carry = overflow;
            word
        }))
    }
}

/// Reads a decimal text as a multiple of `10^-scale` with at most `precision` digits.
///
/// Digits behind the scale must be zeros: nothing is rounded.
pub fn parse(text: &[u8], precision: u8, scale: u8) -> Result<Int256, DecimalError> {
    if let Some(value) = parse_plain(text, precision, scale) {
        return Ok(value);
    }
    parse_any(text, precision, scale)
}

/// The common case: an optional sign, at most 18 digits and just as many decimals as the type has.
#[inline]
fn parse_plain(text: &[u8], precision: u8, scale: u8) -> Option<Int256> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 || digits.len() > usize::from(precision) + 1 {
        return None;
    }
    let point = digits.len().checked_sub(usize::from(scale) + 1)?;
    let mut value = 0_i64;
    let mut count = 0_u8;
    for (at, &byte) in digits.iter().enumerate() {
        if at == point && scale > 0 {
            if byte != b'.' {
                return None;
            }
            continue;
        }
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
        count += 1;
    }
    // A leading zero may be one digit more than the precision: the general path counts properly.
    (count > scale && count <= precision)
        .then(|| Int256::from_i128(i128::from(if negative { -value } else { value })))
}

fn parse_any(text: &[u8], precision: u8, scale: u8) -> Result<Int256, DecimalError> {
    let Special::Number(number) = Number::read(text)? else { return Err(DecimalError::OutOfRange) };
    if number.digits.is_empty() {
        return Ok(Int256::default());
    }
    let shift = number.shift(scale).ok_or(DecimalError::TooWide)?;
    let (kept, zeros) = if let Ok(zeros) = usize::try_from(shift) {
        (number.digits.as_slice(), zeros)
    } else {
        let cut = usize::try_from(-shift).map_err(|_| DecimalError::TooWide)?;
        let keep = number.digits.len().saturating_sub(cut);
        if number.digits[keep..].iter().any(|digit| *digit != 0) {
            return Err(DecimalError::TooWide);
        }
        (&number.digits[..keep], 0)
    };
    if kept.len().saturating_add(zeros) > usize::from(precision).min(MAX_DIGITS) {
        return Err(DecimalError::TooWide);
    }
    Ok(number.signed(of_digits(kept, zeros)))
}

/// The value of a type that is nearest to a number: rounded, or the greatest of its sign; 0 for NaN.
pub fn nearest(text: &[u8], precision: u8, scale: u8) -> Result<Int256, DecimalError> {
    let most = usize::from(precision).min(MAX_DIGITS);
    let greatest = |negative: bool| {
        let value = of_digits(&vec![9; most], 0);
        if negative { value.negated() } else { value }
    };
    let number = match Number::read(text)? {
        Special::NotANumber => return Ok(Int256::default()),
        Special::Infinite { negative } => return Ok(greatest(negative)),
        Special::Number(number) => number,
    };
    if number.digits.is_empty() {
        return Ok(Int256::default());
    }
    let Some(shift) = number.shift(scale) else { return Ok(greatest(number.negative)) };
    let (mut kept, zeros) = if let Ok(zeros) = usize::try_from(shift) {
        (number.digits.clone(), zeros)
    } else {
        let keep = number.digits.len().saturating_sub(usize::try_from(-shift).unwrap_or(usize::MAX));
        let up = number.digits.get(keep).is_some_and(|digit| *digit >= 5)
            && number.digits.len().checked_sub(keep).and_then(|cut| i64::try_from(cut).ok()) == Some(-shift);
        let mut kept = number.digits[..keep].to_vec();
        if up {
            round_up(&mut kept);
        }
        (kept, 0)
    };
    if kept.len().saturating_add(zeros) > most {
        return Ok(greatest(number.negative));
    }
    kept.extend(std::iter::repeat_n(0, zeros));
    Ok(number.signed(of_digits(&kept, 0)))
}

fn round_up(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < 9 {
            *digit += 1;
            return;
        }
        *digit = 0;
    }
    digits.insert(0, 1);
}

fn of_digits(digits: &[u8], zeros: usize) -> Int256 {
    let mut value = Int256::default();
    digits.iter().copied().chain(std::iter::repeat_n(0, zeros)).for_each(|digit| value.push_digit(digit));
    value
}

/// What a decimal text says.
enum Special {
    Number(Number),
    NotANumber,
    Infinite { negative: bool },
}

/// A finite number: its digits from the first that is not zero, and where the point is.
struct Number {
    negative: bool,
    digits: Vec<u8>,
    /// Digits behind the point, less the exponent.
    behind_point: i64,
}

impl Number {
    fn read(text: &[u8]) -> Result<Special, DecimalError> {
        use DecimalError::Malformed;
        let text = text.trim_ascii();
        let (negative, unsigned) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            Some((b'+', rest)) => (false, rest),
            _ => (false, text),
        };
        let is = |word: &str| unsigned.eq_ignore_ascii_case(word.as_bytes());
        if is("nan") {
            return Ok(Special::NotANumber);
        }
        if ["infinity", "inf", "positive_infinity"].iter().any(|word| is(word)) {
            return Ok(Special::Infinite { negative });
        }
        if is("negative_infinity") {
            return Ok(Special::Infinite { negative: true });
        }
        let (mantissa, exponent) = match unsigned.iter().position(|b| matches!(b, b'e' | b'E')) {
            None => (unsigned, 0),
            Some(at) => {
                let exponent =
                    std::str::from_utf8(&unsigned[at + 1..]).ok().and_then(|t| t.parse::<i32>().ok());
                (&unsigned[..at], exponent.ok_or(Malformed)?)
            }
        };
        let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
            None => (mantissa, &[][..]),
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        };
        if whole.is_empty() && fraction.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return Err(Malformed);
        }
        let digits = whole.iter().chain(fraction).map(|b| b - b'0').skip_while(|digit| *digit == 0).collect();
        let behind_point = i64::try_from(fraction.len()).map_err(|_| Malformed)? - i64::from(exponent);
        Ok(Special::Number(Self { negative, digits, behind_point }))
    }

    /// Zeros to append, or digits to cut where negative, so that the unit is `10^-scale`; `None` beyond any type.
    fn shift(&self, scale: u8) -> Option<i64> {
        let shift = i64::from(scale) - self.behind_point;
        (shift <= i64::try_from(MAX_DIGITS).unwrap_or(i64::MAX)).then_some(shift)
    }

    fn signed(&self, value: Int256) -> Int256 {
        if self.negative { value.negated() } else { value }
    }
}

/// Writes a big-endian two's complement number of any length, divided by `10^scale`, as text.
///
/// This is how Connect encodes its logical type Decimal.
pub fn text_of_unscaled(bytes: &[u8], scale: i32) -> String {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut magnitude: Cow<'_, [u8]> = Cow::Borrowed(bytes);
    if negative {
        let mut carry = true;
        for byte in magnitude.to_mut().iter_mut().rev() {
            let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, overflow);
        }
    }
    // Decimal digits, least significant first.
    let mut digits = vec![0_u8];
    for byte in magnitude.iter() {
        let mut carry = u16::from(*byte);
        for digit in &mut digits {
            let value = u16::from(*digit) * 256 + carry;
            *digit = u8::try_from(value % 10).expect("a remainder of ten");
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).expect("a remainder of ten"));
            carry /= 10;
        }
    }
    let places = usize::try_from(scale.max(0)).unwrap_or(0);
    if scale < 0 && digits != [0] {
        let zeros = usize::try_from(scale.unsigned_abs()).unwrap_or(0).min(1 << 16);
        digits.splice(0..0, std::iter::repeat_n(0, zeros));
    }
    while digits.len() <= places {
        digits.push(0);
    }
    let mut text = String::with_capacity(digits.len() + 2);
    if negative {
        text.push('-');
    }
    for (place, digit) in digits.iter().enumerate().rev() {
        text.push(char::from(b'0' + digit));
        if place == places && places > 0 {
            text.push('.');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small(text: &str, precision: u8, scale: u8) -> Result<i128, DecimalError> {
        let bytes = parse(text.as_bytes(), precision, scale)?.to_le_bytes();
        let (low, _) = bytes.split_first_chunk().expect("there are 32 bytes");
        Ok(i128::from_le_bytes(*low))
    }

    #[test]
    fn texts_of_every_form_become_scaled_integers() {
        for (text, expected) in [
            ("19.99", 1999),
            ("-12345.67", -1_234_567),
            ("0.00", 0),
            ("5", 500),
            (".5", 50),
            ("-0.01", -1),
            ("1E+3", 100_000),
            ("0E-8", 0),
            ("1.230", 123),
            ("+7", 700),
            ("000000000000001.00", 100),
        ] {
            assert_eq!(small(text, 12, 2), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_rounded() {
        for text in ["0.001", "99999999999.99", "1e400", "1E2147483647"] {
            assert_eq!(small(text, 12, 2), Err(DecimalError::TooWide), "{text}");
        }
        for text in ["NaN", "-Infinity", "NAN", "POSITIVE_INFINITY", "NEGATIVE_INFINITY"] {
            assert_eq!(small(text, 12, 2), Err(DecimalError::OutOfRange), "{text}");
        }
        for text in ["", "-", ".", "12a", "1e", "1.2.3", "0x1"] {
            assert_eq!(small(text, 12, 2), Err(DecimalError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_nearest_number_is_rounded_or_the_last_of_its_sign() {
        for (text, expected) in [
            ("0.001", 0),
            ("0.005", 1),
            ("-0.999", -100),
            ("9.995", 1000),
            ("0.0051", 1),
            ("0.00051", 0),
            ("99999999999.99", 999_999_999_999),
            ("9999999999.995", 999_999_999_999),
            ("-1e400", -999_999_999_999),
            ("1e-400", 0),
            ("NAN", 0),
            ("POSITIVE_INFINITY", 999_999_999_999),
            ("-Infinity", -999_999_999_999),
        ] {
            let bytes = nearest(text.as_bytes(), 12, 2).unwrap().to_le_bytes();
            let (low, _) = bytes.split_first_chunk().expect("there are 32 bytes");
            assert_eq!(i128::from_le_bytes(*low), expected, "{text}");
        }
    }

    #[test]
    fn seventy_six_digits_fit_256_bits() {
        let nines = "9".repeat(76);
        let plus = parse(nines.as_bytes(), 76, 0).unwrap();
        let minus = parse(format!("-{nines}").as_bytes(), 76, 0).unwrap();
        assert_eq!(minus.negated(), plus);
        assert!(parse(format!("{nines}9").as_bytes(), 76, 0).is_err());
        assert_eq!(nearest(format!("{nines}9").as_bytes(), 76, 0).unwrap(), plus);
    }

    #[test]
    fn the_encoding_of_connect_becomes_text() {
        assert_eq!(text_of_unscaled(&[0x01, 0x86, 0xab], 2), "1000.11");
        assert_eq!(text_of_unscaled(&[0xff], 2), "-0.01");
        assert_eq!(text_of_unscaled(&[0], 2), "0.00");
        assert_eq!(text_of_unscaled(&[], 0), "0");
        assert_eq!(text_of_unscaled(&[5], -3), "5000");
    }

    proptest! {
        #[test]
        fn the_text_of_an_unscaled_number_reads_back(value in any::<i128>(), scale in 0_u8..=30) {
            let text = text_of_unscaled(&value.to_be_bytes(), i32::from(scale));
            prop_assert_eq!(parse(text.as_bytes(), 76, scale), Ok(Int256::from_i128(value)));
        }

        #[test]
        fn the_quick_path_agrees_with_the_general_one(text in "-?[0-9]{0,21}\\.?[0-9]{0,6}", scale in 0_u8..6) {
            if let Some(quick) = parse_plain(text.as_bytes(), 18, scale) {
                prop_assert_eq!(parse_any(text.as_bytes(), 18, scale), Ok(quick));
            }
        }
    }
}
