//! Compares values by the values of their numbers: `1` and `1.0` are the same.

use serde_json::{Number, Value};

/// The value of a number, in whatever form the number is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum NumberValue {
    Integer(i128),
    /// The bits of a float with a fraction.
    Fraction(u64),
    /// A number that neither can hold, as it is written.
    Other(String),
}

impl From<&Number> for NumberValue {
    fn from(number: &Number) -> Self {
        if let Some(integer) = number.as_i128() {
            return Self::Integer(integer);
        }
        match number.as_f64() {
            // A float prints all its digits, without an exponent.
            Some(float) if float.fract() == 0.0 => match float.to_string().parse() {
                Ok(integer) => Self::Integer(integer),
                Err(_) => Self::Other(float.to_string()),
            },
            Some(float) => Self::Fraction(float.to_bits()),
            None => Self::Other(number.to_string()),
        }
    }
}

/// Whether two values are the same.
pub(super) fn is_same_value(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => NumberValue::from(left) == NumberValue::from(right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same_value(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let has_same =
                |(name, value): (&String, &Value)| right.get(name).is_some_and(|other| is_same_value(value, other));
            left.len() == right.len() && left.iter().all(has_same)
        }
        (left, right) => left == right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_if_their_values_are() {
        let is_same = |left: &str, right: &str| {
            is_same_value(&serde_json::from_str(left).unwrap(), &serde_json::from_str(right).unwrap())
        };
        for (left, right) in [
            ("1", "1.0"),
            ("1", "10e-1"),
            ("-0.0", "0"),
            ("0.5", "5e-1"),
            ("1e3", "1000"),
            (r#"{"a": [1], "b": 2}"#, r#"{"b": 2.0, "a": [1.0]}"#),
        ] {
            assert!(is_same(left, right), "{left} {right}");
        }
        for (left, right) in [("1", "2"), ("1", "1.5"), ("1", "\"1\""), ("[1]", "[1, 1]"), ("1e400", "1e401")] {
            assert!(!is_same(left, right), "{left} {right}");
        }
    }
}
