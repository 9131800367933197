//! Tells the types of plain scalars apart.

use serde_json::Value;

/// Whether a plain scalar is a string, rather than null, a boolean or a number.
pub(super) fn is_string(text: &str) -> bool {
    matches!(serde_yaml::from_str::<Value>(text), Ok(Value::String(_))) && !is_unsafe_number(text)
}

/// Whether a plain scalar is infinite, `.nan`, or an integer of more than 64 bits.
pub(super) fn is_unsafe_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    if matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let digits_without_prefix = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0o")).unwrap_or(digits);
    if digits_without_prefix.len() < 16 || !digits_without_prefix.starts_with(|c: char| c.is_ascii_hexdigit()) {
        // A short number is exact, unless it is a float that overflows, such as `1e999`.
        return digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.parse::<f64>().is_ok_and(f64::is_infinite);
    }
    let is_decimal_integer =
        digits_without_prefix.len() == digits.len() && digits_without_prefix.bytes().all(|b| b.is_ascii_digit());
    if is_decimal_integer && text.starts_with('-') {
        text.parse::<i64>().is_err()
    } else if is_decimal_integer {
        digits.parse::<u64>().is_err()
    } else if digits_without_prefix.len() == digits.len() {
        digits.parse::<f64>().is_ok_and(f64::is_infinite)
    } else {
        u64::from_str_radix(digits_without_prefix, 16).is_err()
            && digits_without_prefix.bytes().all(|b| b.is_ascii_hexdigit())
    }
}
