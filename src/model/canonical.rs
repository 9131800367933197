//! Canonical JSON: one spelling for each value, so that equal values have equal digests.

use serde_json::Value;

/// The canonical JSON of a value, for digests: sorted keys, no white space, numbers as written. Follows RFC 8785 except
/// for numbers, whose digits are kept.
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
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(number.as_str()),
    }
}

/// Compares keys by UTF-16 code units, as RFC 8785 sorts them; for ASCII that is the order of the bytes.
fn in_order(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// Escapes a string as RFC 8785 does: the short forms where there are some, else four lower-case hexadecimal digits.
fn string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let (plain, tail) = rest.split_at(at);
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
            Some(other) => out.push_str(&format!("\\u{:04x}", u32::from(other))),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
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
    fn every_byte_is_escaped_as_serde_json_escapes_it() {
        let all: String = (0..0x2100).filter_map(char::from_u32).collect();
        assert_eq!(canonical(&Value::from(all.as_str())), serde_json::to_string(&all).unwrap());
    }

    #[test]
    fn strings_are_escaped_as_json_writes_them_and_sorted_by_utf_16() {
        let value = serde_json::json!({ "\u{ff5e}": "a\"b\\c\n\u{1}\u{7f}é", "\u{1f600}": 1, "z": "" });
        let expected = "{\"z\":\"\",\"\u{1f600}\":1,\"\u{ff5e}\":\"a\\\"b\\\\c\\n\\u0001\u{7f}é\"}";
        assert_eq!(canonical(&value), expected);
    }
}
