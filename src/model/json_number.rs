//! The integers among the numbers of JSON, in whatever form they are written: `1`, `1.0` and `1e0` are the same.

use serde_json::{Number, Value};

/// The maximum number of zeros that an exponent may add. No integer of 128 bits has more.
const MAX_ZEROS: usize = 38;

/// The integer that a number is. `None` if it has a fraction, or does not fit into 128 bits. No digit is lost.
pub fn integer_value(number: &Number) -> Option<i128> {
    if let Some(integer) = number.as_i128() {
        return Some(integer);
    }
    let text = number.as_str();
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    if matches!(significant, "" | "-") {
        return Some(0);
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let zeros = zeros.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(exponent.parse().ok()?)?;
    let zeros = usize::try_from(zeros).ok().filter(|zeros| *zeros <= MAX_ZEROS)?;
    format!("{significant}{}", "0".repeat(zeros)).parse().ok()
}

/// The index, status or similar number that a value is; `None` if it is none, or negative.
pub fn whole_number(value: &Value) -> Option<u64> {
    value.as_number().and_then(integer_value).and_then(|integer| u64::try_from(integer).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_may_have_a_point_or_an_exponent() {
        for (text, integer) in [
            ("1", Some(1)),
            ("1.0", Some(1)),
            ("1e0", Some(1)),
            ("10e-1", Some(1)),
            ("1.20e1", Some(12)),
            ("-3.00", Some(-3)),
            ("-0.0", Some(0)),
            ("0e400", Some(0)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("170141183460469231731687303715884105727.0", Some(i128::MAX)),
            ("1.5", None),
            ("1e-1", None),
            ("1e39", None),
            ("1e400", None),
            ("1e99999999999999999999", None),
        ] {
            let number: Number = serde_json::from_str(text).unwrap();
            assert_eq!(integer_value(&number), integer, "{text}");
        }
    }

    #[test]
    fn an_index_is_not_negative_and_is_a_number() {
        let number = |text: &str| whole_number(&serde_json::from_str(text).unwrap());
        assert_eq!((number("2"), number("2.0"), number("18446744073709551615")), (Some(2), Some(2), Some(u64::MAX)));
        for text in ["-1", "0.5", "\"2\"", "null", "[2]", "18446744073709551616"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
