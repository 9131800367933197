//! Refuses values that later steps could not use, whatever their schema says: numbers with which templates can't
//! calculate, and texts with NUL characters, which no program accepts as an argument.

use serde_json::{Number, Value};

use super::Mismatch;

/// Why a part of a value is unusable.
struct UnusablePart {
    /// The keys and indexes that lead to the part, innermost first.
    path: Vec<String>,
    expected: &'static str,
    got: String,
}

impl UnusablePart {
    /// The same part, below the key or index `name`.
    fn below(mut self, name: impl ToString) -> Self {
        self.path.push(name.to_string());
        self
    }
}

/// Returns the first part of a value that later steps could not use.
pub(super) fn unusable_part(value: &Value) -> Option<Mismatch> {
    let UnusablePart { path, expected, got } = find_unusable(value)?;
    let names = path.iter().rev().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
    let (schema_pointer, keyword) = (String::new(), String::new());
    Some(Mismatch {
        pointer: names.collect(),
        schema_pointer,
        keyword,
        expected: expected.to_owned(),
        got,
        schema_advice: None,
    })
}

/// Whether later steps can use every part of a value.
pub(super) fn is_usable(value: &Value) -> bool {
    find_unusable(value).is_none()
}

fn find_unusable(value: &Value) -> Option<UnusablePart> {
    match value {
        Value::Null | Value::Bool(_) => None,
        Value::Number(number) => unusable_number(number),
        Value::String(text) => unusable_text(text),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| find_unusable(item).map(|part| part.below(index)))
        }
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            unusable_text(name).or_else(|| find_unusable(value).map(|part| part.below(name)))
        }),
    }
}

fn unusable_text(text: &str) -> Option<UnusablePart> {
    let position = text.find('\0')?;
    let got = format!("one at byte {position}");
    Some(UnusablePart { path: Vec::new(), expected: "text without NUL characters", got })
}

/// Templates calculate with integers of 128 bits and with floats. Any other number would lose its value there.
fn unusable_number(number: &Number) -> Option<UnusablePart> {
    if number.as_i64().is_some() || number.as_u64().is_some() || number.as_i128().is_some() {
        return None;
    }
    let digits = number.as_str();
    let is_integer = !digits.contains(['.', 'e', 'E']);
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !mantissa.contains(|c: char| c.is_ascii_digit() && c != '0');
    let expected = match number.as_f64() {
        _ if is_integer => "an integer of at most 38 digits",
        None => "a number between -1.7e308 and 1.7e308",
        Some(float) if float == 0.0 && !is_zero => "0, or a number that differs from 0 by at least 5e-324",
        Some(_) => return None,
    };
    let shown: String = digits.chars().take(40).collect();
    let got = if shown.len() < digits.len() { format!("{shown}…") } else { shown };
    Some(UnusablePart { path: Vec::new(), expected, got })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unusable(json: &str) -> Option<String> {
        unusable_part(&serde_json::from_str(json).unwrap()).map(|mismatch| mismatch.to_string())
    }

    #[test]
    fn numbers_that_templates_can_hold_are_usable() {
        for json in [
            "0",
            "-0",
            "0.0",
            "0e999",
            "1.5",
            "1e300",
            "-1e308",
            "5e-324",
            "18446744073709551616",
            "170141183460469231731687303715884105727",
            r#"{"a": ["\ue000 \uf8fa0\uf8fb", 1]}"#,
        ] {
            assert_eq!(unusable(json), None, "{json}");
        }
    }

    #[test]
    fn other_numbers_and_nul_characters_are_refused_with_their_location() {
        for (json, expected) in [
            ("1e400", "the value: expected a number between -1.7e308 and 1.7e308, got 1e+400"),
            ("-1e400", "the value: expected a number between -1.7e308 and 1.7e308, got -1e+400"),
            (
                r#"{"a/b": [1e-400]}"#,
                "/a~1b/0: expected 0, or a number that differs from 0 by at least 5e-324, got 1e-400",
            ),
            (
                "170141183460469231731687303715884105728",
                "the value: expected an integer of at most 38 digits, got 170141183460469231731687303715884105728",
            ),
            (r#"{"a": ["b", "c\u0000"]}"#, "/a/1: expected text without NUL characters, got one at byte 1"),
            (r#"{"a\u0000": 1}"#, "the value: expected text without NUL characters, got one at byte 1"),
        ] {
            assert_eq!(unusable(json).as_deref(), Some(expected), "{json}");
        }
    }
}
