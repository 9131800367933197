//! One spelling for each JSON value: what digests are taken of.

use serde_json::Value;

/// Canonical JSON: keys sorted, no white space, numbers as written; what digests are taken of.
/// Follows RFC 8785 but for numbers, whose digits are kept.
pub fn canonical(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                // RFC 8785 sorts by UTF-16 code units.
                keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
                out.push('{');
                for (i, key) in keys.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::String(key.clone()).to_string());
                    out.push(':');
                    write(map.get(key).unwrap_or(&Value::Null), out);
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
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_keys_and_keeps_digits() {
        let value: Value = serde_json::from_str(r#"{"b": 1.10, "a": {"d": [1, "x"], "c": null}}"#).unwrap();
        assert_eq!(canonical(&value), r#"{"a":{"c":null,"d":[1,"x"]},"b":1.10}"#);
    }
}
