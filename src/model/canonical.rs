//! One spelling for each JSON value: what digests are taken of.

use serde_json::Value;

/// Canonical JSON: keys sorted, no white space, numbers as written; what digests are taken of.
/// Follows RFC 8785 but for numbers, whose digits are kept.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| in_order(a, b));
            out.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                string(key, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::String(text) => string(text, out),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

/// RFC 8785 sorts by UTF-16 code units, which is the order of the bytes where all are ASCII.
fn in_order(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

fn string(text: &str, out: &mut String) {
    // What needs no escape is by far the most.
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push_str(&Value::from(text).to_string());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_keys_and_keeps_digits() {
        let value: Value = serde_json::from_str(r#"{"b": 1.10, "a": {"d": [1, "x"], "c": null}}"#).unwrap();
        assert_eq!(canonical(&value), r#"{"a":{"c":null,"d":[1,"x"]},"b":1.10}"#);
    }

    #[test]
    fn strings_are_escaped_as_json_writes_them_and_sorted_by_utf_16() {
        let value = serde_json::json!({ "\u{ff5e}": "a\"b\\c\n\u{1}\u{7f}é", "\u{1f600}": 1, "z": "" });
        let expected = "{\"z\":\"\",\"\u{1f600}\":1,\"\u{ff5e}\":\"a\\\"b\\\\c\\n\\u0001\u{7f}é\"}";
        assert_eq!(canonical(&value), expected);
    }
}
