//! Canonical JSON: equal values have equal texts, and so equal digests.

use serde_json::Value;

/// The canonical JSON of a value, for digests: sorted keys and no white space. Follows RFC 8785, except for numbers.
/// Numbers are written exactly as in the input, so `1.10` and `1.1` differ.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| compare_keys(a, b));
            out.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_value(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_string(text, out),
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(number.as_str()),
    }
}

/// Compares keys by UTF-16 code units, as RFC 8785 sorts them; for ASCII that is the order of the bytes.
fn compare_keys(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// Writes a string, escaped as in RFC 8785: with a short form if there is one, else with four lower-case hexadecimal
/// digits.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut remaining = text;
    while let Some(offset) = remaining.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let (plain, tail) = remaining.split_at(offset);
        out.push_str(plain);
        let mut chars = tail.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\t') => out.push_str("\\t"),
            Some('\n') => out.push_str("\\n"),
            Some('\u{c}') => out.push_str("\\f"),
            Some('\r') => out.push_str("\\r"),
            Some(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            None => {}
        }
        remaining = chars.as_str();
    }
    out.push_str(remaining);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_keys_and_keeps_digits() {
        let value: Value = serde_json::from_str(r#"{"b": 1.10, "a": {"d": [1, "x"], "c": null}}"#).unwrap();
        assert_eq!(canonical_json(&value), r#"{"a":{"c":null,"d":[1,"x"]},"b":1.10}"#);
    }

    #[test]
    fn characters_are_escaped_like_in_serde_json() {
        let text: String = (0..0x2100).filter_map(char::from_u32).collect();
        assert_eq!(canonical_json(&Value::from(text.as_str())), serde_json::to_string(&text).unwrap());
    }

    #[test]
    fn strings_are_escaped_and_keys_sorted_by_utf_16() {
        let value = serde_json::json!({ "\u{ff5e}": "a\"b\\c\n\u{1}\u{7f}é", "\u{1f600}": 1, "z": "" });
        let expected = "{\"z\":\"\",\"\u{1f600}\":1,\"\u{ff5e}\":\"a\\\"b\\\\c\\n\\u0001\u{7f}é\"}";
        assert_eq!(canonical_json(&value), expected);
    }
}
