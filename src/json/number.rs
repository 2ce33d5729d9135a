//! Numbers as text to exact values. A number that does not fit is an error and never becomes a different value.

/// A decimal number: `digits * 10^exponent`, or its negative.
pub(super) struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// `text` must match JSON's grammar for numbers.
    pub(super) fn parse(text: &'a [u8]) -> Self {
        let (negative, text) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
            Some(e) => (&text[..e], parse_exponent(&text[e + 1..])),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
            Some(dot) => (&mantissa[..dot], &mantissa[dot + 1..]),
            None => (mantissa, &mantissa[..0]),
        };
        Self { negative, whole, fraction, exponent }
    }

    /// The value times 10^scale, if that is an integer; `Err` says why not.
    pub(super) fn scaled(&self, scale: i64) -> Result<i128, Unfit> {
        self.integer(scale, false)
    }

    /// The same, but digits that are too fine are cut off.
    pub(super) fn cut(&self, scale: i64) -> Result<i128, Unfit> {
        self.integer(scale, true)
    }

    fn integer(&self, scale: i64, cut: bool) -> Result<i128, Unfit> {
        // Leading and trailing zeros do not matter: 1.0, 10e-1 and 0.1e1 are all 1.
        let digits = || self.whole.iter().chain(self.fraction).copied();
        let total = self.whole.len() + self.fraction.len();
        let Some(first) = digits().position(|d| d != b'0') else { return Ok(0) };
        let trailing = self.fraction.iter().rev().chain(self.whole.iter().rev()).take_while(|d| **d == b'0').count();
        let mut significant = (total - first - trailing) as i64;
        // The power of ten of the last significant digit.
        let mut power = self.exponent - self.fraction.len() as i64 + trailing as i64 + scale;
        if power < 0 {
            if !cut {
                return Err(Unfit::Fraction);
            }
            (significant, power) = (significant + power, 0);
        }
        if significant <= 0 {
            return Ok(0);
        }
        if significant + power > 38 {
            return Err(Unfit::Range);
        }
        let mut value: i128 = 0;
        for d in digits().skip(first).take(significant as usize) {
            value = value * 10 + i128::from(d - b'0');
        }
        value *= 10i128.pow(power as u32);
        Ok(if self.negative { -value } else { value })
    }
}

/// Why a number does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Fraction,
    Range,
}

fn parse_exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    // Far beyond the range of every type the exact exponent does not matter.
    let n = digits.iter().fold(0i64, |n, d| (n * 10 + i64::from(d - b'0')).min(1_000_000_000));
    if negative { -n } else { n }
}

/// The common case: an integer of up to 18 digits, without a fraction or an exponent.
#[inline]
pub(super) fn small_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if digits.len() > 18 {
        return None;
    }
    let mut n = 0i64;
    for d in digits {
        if !d.is_ascii_digit() {
            return None;
        }
        n = n * 10 + i64::from(d - b'0');
    }
    Some(if negative { -n } else { n })
}

/// Any JSON number as an integer, if it is one.
pub(super) fn integer(text: &[u8]) -> Result<i128, Unfit> {
    match small_integer(text) {
        Some(n) => Ok(n.into()),
        None => Decimal::parse(text).scaled(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_are_too_fine_are_cut_where_that_is_asked_for() {
        for (text, scale, want) in [
            ("1764154800.1234567", 6, 1_764_154_800_123_456),
            ("1706702400123456789", -3, 1_706_702_400_123_456),
            ("-1.9999999", 6, -1_999_999),
            ("-1", -3, 0),
            ("999", -3, 0),
            ("1e-30", 6, 0),
            ("1.5e3", -3, 1),
            ("12.5", 6, 12_500_000),
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()).cut(scale), Ok(want), "{text}");
        }
    }

    #[test]
    fn integers_are_exact_or_refused() {
        for (text, want) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("1.0", Ok(1)),
            ("1e3", Ok(1000)),
            ("10e-1", Ok(1)),
            ("0.1e1", Ok(1)),
            ("-12.50e1", Ok(-125)),
            ("0e999999999999", Ok(0)),
            ("9007199254740993.0", Ok(9007199254740993)),
            ("18446744073709551616", Ok(18446744073709551616)),
            ("1.9", Err(Unfit::Fraction)),
            ("1e-1", Err(Unfit::Fraction)),
            ("1e400", Err(Unfit::Range)),
        ] {
            assert_eq!(integer(text.as_bytes()), want, "{text}");
        }
    }
}
